"""P9: time and memory of a training step of the bundles' networks at their default sizes, float32 on the CPU.

``python benchmarks/bench_steps.py [--quick] [--all] [--checkpointing 1 4]``. Each line is a process of its own: two
steps (AdamW; cross-entropy, or the losses of `surface_unet`), the second of them timed, and one where freed memory is
given back, as that knows no first step; memory is the peak of the whole process. Neither gradient checkpointing nor
kept memory may change the loss. ``--quick`` takes images of half the edges, ``--all`` adds the other bundles,
``--checkpointing`` lines of `surface_unet` with so many patches a step: minutes.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from typing import Any

import torch
from bench_training import Stepper
from table import flops, machine, row
from torch import nn

from monai_ext.allocator import keep_freed_memory
from monai_ext.engines import check_training_step
from monai_ext.losses import MultiTargetLoss
from monai_ext.networks import VGG3D, MedicalNetResNet50, SurfaceUNet, VGG3DAdapter

SURFACE = "surface_unet"
SIZES = {
    "brats_resnet50": (4, 128, 128, 128),
    "nuclei_vgg3d": (8, 60, 60, 60),
    "nuclei_vgg3d, classifier alone": (8, 60, 60, 60),
    SURFACE: (1, 64, 192, 192),
}
TARGETS = {"sheet": {"channels": 1, "activation": "sigmoid"}, "normals": {"channels": 3, "weight": 0.75}}


def network_of(name: str, size: list[int], checkpointing: bool = False) -> nn.Module:
    torch.manual_seed(0)
    if name == SURFACE:
        return SurfaceUNet(targets=TARGETS, checkpointing=checkpointing)
    if name == "brats_resnet50":
        return MedicalNetResNet50(dropout=0.0)
    adapter = VGG3DAdapter(VGG3D(size), size, num_classes=4)
    adapter.features.requires_grad_("alone" not in name)
    return adapter


def example(name: str, batch: int, size: list[int]) -> dict[str, Any]:
    torch.manual_seed(1)
    image = torch.randn(batch, 1, *size)
    if name != SURFACE:
        return {"image": image, "label": torch.arange(batch) % 2}
    sheet = (torch.rand(batch, 1, *size) > 0.8).float()
    normals = nn.functional.normalize(torch.randn(batch, 3, *size), dim=1) * sheet
    return {"image": image, "label": {"sheet": sheet, "normals": normals}}


def measured(name: str, kept: bool, checkpointing: bool, batch: int, *size: int) -> dict[str, float]:
    """In this process: seconds of the last step, loss of the first one, and GiB."""
    if kept:
        keep_freed_memory()
    network, given = network_of(name, list(size), checkpointing), example(name, batch, list(size))
    if kept:
        check_training_step(network, given["image"].shape, "cpu")  # which knows where it mustn't be kept
    loss = MultiTargetLoss(TARGETS) if name == SURFACE else nn.CrossEntropyLoss()
    stepper = Stepper(network, given, {}, loss)
    steps = [stepper.step() for _ in range(2 if kept else 1)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"seconds": steps[-1][0], "loss": steps[0][1], "GiB": peak}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true")
    options.add_argument("--all", action="store_true", help="the other bundles' memory, too")
    options.add_argument("--checkpointing", type=int, nargs="+", default=[], metavar="BATCH")
    options.add_argument("--one", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.one:
        print(json.dumps(measured(*json.loads(given.one))))
        return
    shrink = 2 if given.quick else 1
    sizes = {name: (batch, *(edge // shrink for edge in size)) for name, (batch, *size) in SIZES.items()}
    cases = [(name, True, False, *size) for name, size in sizes.items() if given.all or name == SURFACE]
    cases += [(SURFACE, False, False, *sizes[SURFACE])]
    cases += [(SURFACE, True, True, batch, *sizes[SURFACE][1:]) for batch in given.checkpointing]
    seconds, losses = {}, {}
    for name, kept, checkpointing, batch, *size in cases:
        words = json.dumps([name, kept, checkpointing, batch, *size])
        done = subprocess.run([sys.executable, __file__, "--one", words], capture_output=True, text=True, check=False)
        what = f"{name}, {batch} × {'×'.join(map(str, size))}"
        how = f"{'kept' if kept else 'given back'}{', checkpointing' if checkpointing else ''}"
        if done.returncode:
            print(f"{what}, memory {how}: failed or did not fit: {done.stderr.splitlines()[-1:]}", flush=True)
            continue
        found = json.loads(done.stdout.splitlines()[-1])
        if losses.setdefault(what, found["loss"]) != found["loss"]:
            raise SystemExit("checkpointing or kept memory changed the loss")
        print(f"P9 {what}, memory {how}: {found['GiB']:.1f} GiB, {found['seconds']:.2f} s", flush=True)
        seconds[name, how] = found["seconds"]
    if not {(SURFACE, "kept"), (SURFACE, "given back")} <= set(seconds):
        raise SystemExit(f"no row: a step of {SURFACE} did not fit")
    batch, *size = sizes[SURFACE]
    operations = 3 * flops(network_of(SURFACE, size), torch.empty(batch, 1, *size))
    limit = operations / machine().float32 / 1e9
    others = {"the same, freed memory given back": [seconds[SURFACE, "given back"]]}
    row("P9", f"training step of {SURFACE}, {'×'.join(map(str, size))}", [seconds[SURFACE, "kept"]], others, limit)


if __name__ == "__main__":
    main()
