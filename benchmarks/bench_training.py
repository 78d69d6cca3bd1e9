"""P9: a training step of the ResNet50-3D against MONAI's eager float32 step, on this machine's CPU.

``python benchmarks/bench_training.py [--quick] [--size 64] [--batch 4] [--rounds 5]``
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from typing import Any

import torch
from monai.engines import SupervisedTrainer
from table import as_it_comes, flops, machine, row

from monai_ext.allocator import keep_freed_memory
from monai_ext.engines import TrainingStep
from monai_ext.errors import ConfigError
from monai_ext.networks import MedicalNetResNet50, initial_network

MONAI = "MONAI eager float32"
VARIANTS: dict[str, tuple[bool, dict[str, Any] | None]] = {
    MONAI: (False, None),
    "our step, float32": (False, {}),
    "channels-last": (True, {}),
    "bf16": (False, {"amp": True}),
    "channels-last, bf16": (True, {"amp": True}),
}
"""In channels-last order or not, and what our step is made with."""


class Stepper:
    """One trainer that does a step at a time on the same batch."""

    def __init__(
        self,
        network: torch.nn.Module,
        batch: dict[str, Any],
        step: dict[str, Any] | None,
        loss: torch.nn.Module | None = None,
    ) -> None:
        self.guarded = TrainingStep(**step, nonfinite_limit=10**6) if step is not None else None
        self.trainer = SupervisedTrainer(
            device="cpu",
            max_epochs=10**6,
            epoch_length=1,
            train_data_loader=[batch],
            network=network,
            optimizer=torch.optim.AdamW(network.parameters(), lr=1e-4),
            loss_function=loss or torch.nn.CrossEntropyLoss(),
            prepare_batch=lambda batch, *_, **__: (batch["image"], batch["label"]),
            iteration_update=self.guarded,
            decollate=False,
        )
        self.trainer.state.epoch_length = 1
        self.trainer.state.iteration = 0
        self.batch = batch

    def step(self) -> tuple[float, float]:
        """Seconds and loss of one step."""
        state = self.trainer.state
        state.iteration += 1
        start = time.perf_counter()
        output = self.trainer._process_function(self.trainer, self.batch)
        return time.perf_counter() - start, float(output["loss"])


def batch_of(size: int, count: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {"image": torch.randn(count, 1, size, size, size), "label": torch.arange(count) % 2}


@functools.cache
def stepper(name: str, size: int, count: int) -> Stepper:
    channels_last, step = VARIANTS[name]
    torch.manual_seed(0)
    network = initial_network(MedicalNetResNet50(dropout=0.0), "cpu", channels_last=channels_last)
    return Stepper(network, batch_of(size, count), step)


def step_of(name: str, size: int, count: int) -> tuple[float, float]:
    return stepper(name, size, count).step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="48³, three rounds")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    size, rounds = (48, 3) if options.quick else (options.size, options.rounds)

    keep_freed_memory()
    plain = as_it_comes()

    def step(name: str) -> tuple[float, float]:
        if name == MONAI:
            return plain.submit(step_of, name, size, options.batch).result()
        return step_of(name, size, options.batch)

    first: dict[str, float] = {}
    for name in VARIANTS:
        try:
            first[name] = step(name)[1]
        except ConfigError as error:  # this CPU's gradients are wrong
            print(f"{name}: {error}\n")
    expected = first[MONAI]
    for name, loss in first.items():
        tolerance = 0.1 if "bf16" in name else 1e-3
        if abs(loss - expected) > tolerance * abs(expected):
            raise SystemExit(f"{name}: loss {loss} of the first step instead of {expected}")

    seconds: dict[str, list[float]] = {name: [] for name in first}
    for _ in range(rounds):
        for name, times in seconds.items():
            times.append(step(name)[0])
    plain.shutdown()
    baseline = seconds[MONAI]
    operations = 3 * flops(MedicalNetResNet50(dropout=0.0), batch_of(size, options.batch)["image"])
    for name, times in seconds.items():
        limit = operations / (machine().bf16 if "bf16" in name else machine().float32) / 1e9
        what = f"training step, batch {options.batch} of {size}³, {name}"
        row("P9", what, times, {MONAI: baseline}, limit)
    print(f"ResNet50-3D, batch {options.batch} of {size}³, {torch.get_num_threads()} threads, {rounds} rounds\n")
    print("| training step | s, median (range) | times as fast, median (range) |\n|---|---|---|")
    for name, times in seconds.items():
        ratios = [a / b for a, b in zip(baseline, times, strict=True)]
        guarded = None if name == MONAI else stepper(name, size, options.batch).guarded
        if guarded is not None and guarded.nonfinite:
            name += f" ({guarded.nonfinite} steps without update: non-finite gradient)"
        print(
            f"| {name} | {statistics.median(times):.2f} ({min(times):.2f}-{max(times):.2f}) "
            f"| {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f}) |"
        )


if __name__ == "__main__":
    main()
