"""P9: memory and time of a training step of `surface_unet` at its real size: 64 x 192 x 192 voxels, six levels.

Run ``python benchmarks/bench_surface_step.py [--quick] [--checkpointing 4]``. Each row is a process of its own: forward
and backward passes with the bundle's losses and an AdamW step in float32 on the CPU, the last of them timed; memory is
the peak of the whole process. Neither gradient checkpointing nor kept memory may change the loss. ``--quick`` takes
patches of 32 x 96 x 96.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

import torch
from table import flops, machine, row

from monai_ext.networks import SurfaceUNet

STEP = """
import resource, sys, time
import torch
from monai_ext.allocator import keep_freed_memory
from monai_ext.losses import BCEDiceLoss, MaskedCosineLoss, MultiTargetLoss
from monai_ext.memory import release_when_short
from monai_ext.networks import SurfaceUNet

batch, checkpointing, size = int(sys.argv[1]), sys.argv[2] == "True", [int(n) for n in sys.argv[3].split(",")]
torch.manual_seed(0)
targets = {"sheet": {"channels": 1, "activation": "sigmoid"}, "normals": {"channels": 3, "weight": 0.75}}
network = SurfaceUNet(targets=targets, checkpointing=checkpointing)
optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
loss = MultiTargetLoss(targets)
image = torch.randn(batch, 1, *size)
sheet = (torch.rand(batch, 1, *size) > 0.8).float()
normals = torch.nn.functional.normalize(torch.randn(batch, 3, *size), dim=1) * sheet
kept, steps = sys.argv[4] == "kept", int(sys.argv[5])
if kept:
    keep_freed_memory()
for step in range(steps):
    if kept:
        release_when_short()
    optimizer.zero_grad()
    start = time.perf_counter()
    value = loss(network(image), {"sheet": sheet, "normals": normals})
    value.backward()
    optimizer.step()
    seconds = time.perf_counter() - start
    first = float(value.detach()) if step == 0 else first
print(f"{first:.6f} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} {seconds:.2f}")
"""


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--quick", action="store_true")
    options.add_argument(
        "--checkpointing", type=int, nargs="+", default=[], metavar="BATCH", help="rows more, such as 1 4: minutes"
    )
    given = options.parse_args()
    size = [32, 96, 96] if given.quick else [64, 192, 192]
    shown = "×".join(map(str, size))
    print(
        f"steps on patches of {shown}, float32, CPU\nbatch  checkpointing  freed memory  peak of the process  seconds"
    )
    rows = [(1, False, "as it comes", 2), (1, False, "kept", 2)]
    rows += [(batch, True, "kept", 1) for batch in given.checkpointing]
    losses: dict[int, str] = {}
    seconds: dict[str, float] = {}
    for batch, checkpointing, memory, steps in rows:
        words = [str(word) for word in (batch, checkpointing, ",".join(map(str, size)), memory, steps)]
        done = subprocess.run([sys.executable, "-c", STEP, *words], capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{batch:5}  {checkpointing!s:13}  {memory:12}  did not fit this machine")
            continue
        value, peak, took = done.stdout.split()
        assert losses.setdefault(batch, value) == value, "checkpointing or kept memory changed the loss"
        print(f"{batch:5}  {checkpointing!s:13}  {memory:12}  {peak:>15} GiB  {took:>7}", flush=True)
        if steps == 2:
            seconds[memory] = float(took)
    with torch.device("meta"):
        operations = 3 * flops(SurfaceUNet(), torch.empty(1, 1, *size))
    as_it_comes = {"the same, freed memory as it comes": [seconds["as it comes"]]}
    limit = operations / machine().float32 / 1e9
    row("P9", f"training step of surface_unet, {shown}", [seconds["kept"]], as_it_comes, limit)


if __name__ == "__main__":
    main()
