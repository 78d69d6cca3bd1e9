"""P11: what the LDAM loss costs in a training step of the ResNet50-3D, against cross-entropy.

``python benchmarks/bench_losses.py [--quick] [--size 64] [--rounds 20]``
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from table import row
from torch import nn

from monai_ext.losses import LDAMLoss, drw_weights
from monai_ext.networks import MedicalNetResNet50

COUNTS = [75, 210]
CALLS = 200


def milliseconds(function: Callable[[], None], calls: int = 1) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - start) / calls * 1e3


def check_equal(logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> None:
    """Without margin and scale LDAM is weighted cross-entropy; only then is it fair to compare the two."""
    expected = nn.functional.cross_entropy(logits, target, weight=weight)
    torch.testing.assert_close(LDAMLoss(COUNTS, max_m=0.0, s=1.0, weight=weight)(logits, target), expected)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="32³ volumes, five rounds")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    size, rounds = (32, 5) if arguments.quick else (arguments.size, arguments.rounds)

    torch.manual_seed(0)
    target, weight = torch.tensor([0, 1, 1, 0]), drw_weights(COUNTS)
    logits = torch.randn(4, 2, requires_grad=True)
    check_equal(logits, target, weight)
    losses = {
        "cross-entropy": nn.CrossEntropyLoss(weight=weight),
        "LDAM": LDAMLoss(COUNTS),
        "LDAM, weighted mean": LDAMLoss(COUNTS, weight=weight),
        "LDAM, batch mean": LDAMLoss(COUNTS, weight=weight, reduction="batch_mean"),
    }
    network, image = MedicalNetResNet50().train(), torch.randn(4, 1, size, size, size)
    plain = losses["cross-entropy"]

    times: dict[str, list[float]] = {name: [] for name in losses}
    steps = []
    for _ in range(rounds):
        steps.append(milliseconds(lambda: plain(network(image), target).backward()))
        for name, loss in losses.items():
            times[name].append(milliseconds(lambda loss=loss: loss(logits, target).backward(), CALLS))
    step = statistics.median(steps)
    added = {name: [loss / 1e3 for loss in values] for name, values in times.items() if name != "cross-entropy"}
    for name, values in added.items():
        what = f"{name}, forward and backward, within a step; limit: cross-entropy"
        limit = statistics.median(times["cross-entropy"]) / 1e3
        row("P11", what, values, {"the whole step": [s / 1e3 for s in steps]}, limit)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"step of the ResNet50-3D, batch 4 of {size}³: {step:.0f} ms ({min(steps):.0f} to {max(steps):.0f})\n")
    print("| loss, forward and backward | ms (median) | range | share of the step |")
    print("|---|---|---|---|")
    for name, values in times.items():
        median = statistics.median(values)
        print(f"| {name} | {median:.3f} | {min(values):.3f} to {max(values):.3f} | {median / step:.3%} |")


if __name__ == "__main__":
    main()
