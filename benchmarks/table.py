"""The one table of all benchmarks: ours, what a user would otherwise run, and what this machine could do at most."""

from __future__ import annotations

import copy
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch

HEAD = "| row | what | ours | otherwise | times as fast | limit | of the limit |\n|---|---|---|---|---|---|---|"
ROWS, MACHINE = "BENCH_ROWS", "BENCH_MACHINE"


class Machine(NamedTuple):
    """What the cores in use do at most, measured: convolutions or products of matrices in GFLOP/s, copies in GB/s."""

    float32: float
    bf16: float
    copy: float

    def __str__(self) -> str:
        return (
            f"at most {self.float32:.0f} (float32) and {self.bf16:.0f} (bf16) GFLOP/s, copy {self.copy:.1f} GB/s, "
            f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}"
        )


def machine() -> Machine:
    """Measured once in a run of all benchmarks."""
    if MACHINE in os.environ:
        return Machine(*json.loads(os.environ[MACHINE]))
    copied = torch.ones(1 << 26)
    into = torch.empty_like(copied)
    rates = [max(_products(dtype), _convolution(dtype)) for dtype in (torch.float32, torch.bfloat16)]
    found = Machine(*rates, 2 * copied.nbytes / _best(lambda: into.copy_(copied)) / 1e9)
    os.environ[MACHINE] = json.dumps(found)
    return found


def as_it_comes() -> ProcessPoolExecutor:
    """A process for what a user would otherwise run: there freed memory isn't kept, as it is in every run of ours."""
    return ProcessPoolExecutor(
        1, multiprocessing.get_context("spawn"), initializer=torch.set_num_threads, initargs=(torch.get_num_threads(),)
    )


def _products(dtype: torch.dtype, edge: int = 2048) -> float:
    a, b = torch.randn(2, edge, edge).to(dtype)
    return 2 * edge**3 / _best(lambda: a @ b) / 1e9


def _convolution(dtype: torch.dtype, channels: int = 512, edge: int = 64) -> float:
    """Faster than products of matrices where torch's library for these isn't made for the processor."""
    layer = torch.nn.Conv2d(channels, channels, 3, padding=1, bias=False).to(dtype, memory_format=torch.channels_last)
    image = torch.randn(1, channels, edge, edge, dtype=dtype).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        return 2 * (3 * channels * edge) ** 2 / _best(lambda: layer(image)) / 1e9


def flops(network: torch.nn.Module, image: torch.Tensor) -> float:
    """Floating-point operations of a forward pass: those of convolutions and matrices, which nothing computes."""
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    shapes = copy.deepcopy(network).to("meta")
    with counter, torch.no_grad():
        shapes(image.to("meta"))
    return float(counter.get_total_flops())


def row(
    target: str,
    what: str,
    ours: Sequence[float],
    others: Mapping[str, Sequence[float]],
    limit: float | None = None,
) -> None:
    """Add rows to the table: one for each other way.

    Args:
        target: row of the specification, "P7".
        what: what was done, with its sizes.
        ours: seconds, in turns with the others.
        others: seconds of each other way.
        limit: seconds that the machine needs at least; None where there is no such limit.
    """
    median = statistics.median(ours)
    for name, seconds in others.items():
        ratios = sorted(other / own for other, own in zip(seconds, ours, strict=True))
        told = f"{_shown(limit)} | {limit / median:.0%}" if limit else " | "
        line = (
            f"| {target} | {what} | {_shown(median)} | {name}: {_shown(statistics.median(seconds))} | "
            f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) | {told} |"
        )
        print(line, flush=True)
        if ROWS in os.environ:
            with open(os.environ[ROWS], "a", encoding="utf-8") as file:
                file.write(f"{line}\n")


def rows(path: Path) -> str:
    """The table of what was measured so far, by row of the specification."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return "\n".join([HEAD, *sorted(lines, key=lambda line: int(line.split("|")[1].strip(" P")))])


def timed(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _best(work: Callable[[], object], repeats: int = 5) -> float:
    return min(timed(work) for _ in range(repeats))


def _shown(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1e3 * seconds:.3g} ms"
