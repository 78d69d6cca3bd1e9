"""Out of memory: recognising it, releasing the cache, and computing in smaller parts."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import psutil
import torch

from monai_ext.allocator import release_freed_memory
from monai_ext.errors import UserError

logger = logging.getLogger("monai_ext")

# Allocators of torch (CPU, CUDA, ROCm, MPS), the driver, cuBLAS, and cuDNN 8 and 9 report it in these words.
_SAID = re.compile(r"out of memory|allocate memory|STATUS_ALLOC_FAILED|ALLOCATION_FAILED", re.IGNORECASE)

# Limit, use and statistics of the process's control group, version 2 and 1.
_LIMITS = [
    tuple(f"/sys/fs/cgroup/{name}" for name in ("memory.max", "memory.current", "memory.stat")),
    tuple(f"/sys/fs/cgroup/memory/memory.{name}" for name in ("limit_in_bytes", "usage_in_bytes", "stat")),
]

Part = TypeVar("Part")


class FullMemoryError(UserError):
    """Something that can't be made smaller doesn't fit the memory."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception reports that memory ran out, on a GPU or on the CPU.

    Args:
        error: any exception.
    """
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and _SAID.search(str(error)) is not None
    )


def release_cached_memory() -> None:
    """Release the memory that torch (GPU) and glibc (host) keep, so that a retry doesn't fail on its fragments."""
    release_freed_memory()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def free_memory(device: torch.device) -> int:
    """Bytes that this process can still take: of a GPU, or of the host within its control group's limit."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    release_freed_memory()
    return _free_on_host()


def _free_on_host() -> int:
    free = psutil.virtual_memory().available
    for limit, used, cached in _LIMITS:
        with contextlib.suppress(OSError, ValueError):  # no such limit
            reclaimable = re.search(r"^(?:total_)?inactive_file (\d+)$", Path(cached).read_text(), re.MULTILINE)
            taken = int(Path(used).read_text()) - int(reclaimable[1] if reclaimable else 0)
            free = min(free, int(Path(limit).read_text()) - taken)
    return free


def in_halves(compute: Callable[[int, int], Part], count: int, at_once: int, advice: str) -> list[Part]:
    """Compute samples in parts, and in halves of these (and again) while memory runs out; without gradients.

    Args:
        compute: result of the samples from ``start`` to ``stop`` (exclusive).
        count: number of samples.
        at_once: samples per part, at least 1.
        advice: what to do when a single sample doesn't fit, for the error message.

    Raises:
        FullMemoryError: when a single sample doesn't fit.
        RuntimeError: any that ``compute`` raises, other than out of memory.
    """  # noqa: DOC501 (a MemoryError is never raised again: it always means out of memory)
    while True:
        try:
            return [compute(start, min(start + at_once, count)) for start in range(0, count, at_once)]
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # Outside the except clause, whose exception holds what was computed.
        release_cached_memory()
        if at_once == 1:
            raise FullMemoryError(f"out of memory with one sample; {advice}")
        logger.warning("out of memory with %d samples at once: retried in halves", at_once)
        at_once = (at_once + 1) // 2
