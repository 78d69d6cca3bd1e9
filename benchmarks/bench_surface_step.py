"""Memory and time of one training step of `surface_unet` at its real size: 64 x 192 x 192 voxels, six levels.

Run ``python benchmarks/bench_surface_step.py [--quick] [--batch 4]``. Each row is a process of its own: one forward and
backward pass with the bundle's losses and an AdamW step in float32 on the CPU; what counts is the peak of the whole
process. Gradient checkpointing must not change the loss. ``--quick`` takes patches of 32 x 96 x 96.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

STEP = """
import resource, sys, time
import torch
from monai_ext.losses import BCEDiceLoss, MaskedCosineLoss, MultiTargetLoss
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
start = time.perf_counter()
value = loss(network(image), {"sheet": sheet, "normals": normals})
value.backward()
optimizer.step()
seconds = time.perf_counter() - start
print(f"{float(value.detach()):.6f} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} {seconds:.0f}")
"""


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--quick", action="store_true")
    options.add_argument("--batch", type=int, help="a row more, such as 4: five minutes")
    given = options.parse_args()
    size = "32,96,96" if given.quick else "64,192,192"
    print(f"one step on patches of {size.replace(',', ' x ')}, float32, CPU")
    print("batch  checkpointing  peak of the process  seconds")
    losses: dict[int, str] = {}
    for batch, checkpointing in ((1, False), (1, True), *([(given.batch, True)] if given.batch else [])):
        words = [sys.executable, "-c", STEP, str(batch), str(checkpointing), size]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{batch:5}  {checkpointing!s:13}  did not fit this machine")
            continue
        value, peak, seconds = done.stdout.split()
        assert losses.setdefault(batch, value) == value, "checkpointing changed the loss"
        print(f"{batch:5}  {checkpointing!s:13}  {peak:>15} GiB  {seconds:>7}", flush=True)


if __name__ == "__main__":
    main()
