"""What a prediction is going to take, before it begins: work, bytes, memory and time."""

from __future__ import annotations

import contextlib
import gc
import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from monai_ext.allocator import release_freed_memory
from monai_ext.errors import ConfigError
from monai_ext.inferers.streaming.blending import sums_shape
from monai_ext.inferers.streaming.job import PredictionJob, same_algorithms
from monai_ext.inferers.streaming.steps import threads_of_each
from monai_ext.memory import free_memory, is_out_of_memory

_GIB = 2**30


@dataclass(frozen=True)
class Estimate:
    """What blocks will take.

    Attributes:
        blocks: number of blocks to compute.
        windows, batches: of the network, at most: blocks that hold nothing but 0 are known when they are read.
        read, written: bytes before compression; those of coarser levels are a seventh of ``written`` more.
        on_device, on_host: bytes of memory.
        seconds: time of the network, by one measured batch.
        device: device of the network.
    """

    blocks: int
    windows: int
    batches: int
    read: int
    written: int
    on_device: int
    on_host: int
    seconds: float
    device: torch.device

    def __str__(self) -> str:
        hours, minutes = divmod(math.ceil(self.seconds / 60), 60)
        return "\n".join(
            (
                f"blocks   {self.blocks}",
                f"windows  {self.windows} in {self.batches} batches",
                f"reads    {self.read / _GIB:.2f} GiB, before compression",
                f"writes   {self.written / _GIB:.2f} GiB, before compression",
                f"memory   {self.on_device / _GIB:.2f} GiB on {self.device}, {self.on_host / _GIB:.2f} GiB on the host",
                f"time     {hours} h {minutes} min for the network, by one measured batch",
            )
        )

    def refuse_what_does_not_fit(self) -> None:
        """Raise `ConfigError` when there isn't so much memory."""
        needs = {self.device: self.on_device, torch.device("cpu"): self.on_host}
        if self.device.type == "cpu":
            needs = {self.device: self.on_device + self.on_host}
        for device, needed in needs.items():
            free = free_memory(device)
            if needed > free:
                raise ConfigError(
                    f"needs {needed / _GIB:.2f} GiB of memory on {device}, where {free / _GIB:.2f} GiB are free; take "
                    "a smaller block_size, batch_size or input_cache_gib"
                )


def estimate(job: PredictionJob, blocks: Sequence[int]) -> Estimate:
    """What these blocks will take; runs the network on two batches of random numbers.

    Args:
        job: the prediction, which needn't have begun.
        blocks: numbers of the blocks, ascending.

    Raises:
        ConfigError: when not even a batch fits the memory.
        RuntimeError: any that the network raises, other than out of memory.
    """  # noqa: DOC501 (a MemoryError is never raised again: it always means out of memory)
    targets = job.store.targets.values()
    block = [min(pair) for pair in zip(job.grid.block_size, job.grid.shape, strict=True)]
    roi = tuple(job.weights.shape)
    windows, batches = job.steps.count(blocks)
    try:
        seconds, peak = _measured(job, roi)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ConfigError(
            f"a batch of {job.steps.batch_size} windows doesn't fit the memory of {job.predictor.device}; take a "
            "smaller batch_size or patch_size"
        ) from error
    channels = sum(target.channels for target in targets)
    sums = math.prod(sums_shape(job.grid.block_size, roi, job.grid.shape)) * (channels + 1) * 4
    voxels = sum(math.prod(part.stop - part.start for part in job.grid.region(each)) for each in blocks)
    waiting = 3 * math.prod(block) * channels * 4
    return Estimate(
        len(blocks),
        windows,
        batches,
        job.steps.bytes_to_read(blocks),
        voxels * sum(target.channels * np.dtype(target.dtype).itemsize for target in targets),
        sums + peak * job.network_threads,
        waiting + job.steps.bytes_at_once(blocks),
        seconds * batches / job.network_threads,
        job.predictor.device,
    )


def _measured(job: PredictionJob, roi: Sequence[int]) -> tuple[float, int]:
    """Seconds of a batch, and by how many bytes it makes the memory of its device grow."""
    device, threads = job.predictor.device, torch.get_num_threads()
    batch = torch.rand(job.steps.batch_size, 1, *roi)
    torch.set_num_threads(threads_of_each(job.network_threads))
    try:
        with same_algorithms(device, job.tf32):
            # What would be freed meanwhile, and what lies free, would hide what the batch needs.
            gc.collect()
            release_freed_memory()
            _forget_peak(device)
            before = _peak(device)
            job.predictor(batch)
            peak = _peak(device) - before
            start = time.perf_counter()
            {name: logits.cpu() for name, logits in job.predictor(batch).items()}
            return time.perf_counter() - start, peak
    finally:
        torch.set_num_threads(threads)


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    resident = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return int(resident[1]) * 1024 if resident else 0


def _forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with contextlib.suppress(OSError):  # not everywhere; then what was needed before counts as there
            Path("/proc/self/clear_refs").write_text("5")
