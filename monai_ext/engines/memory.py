"""Memory that ran out: how to know it, and how to get back what a failed step held."""

from __future__ import annotations

import re

import torch

# Allocators of torch (CPU, CUDA, ROCm, MPS), the driver, cuBLAS, and cuDNN 8 and 9 say it in these words.
_SAID = re.compile(r"out of memory|allocate memory|STATUS_ALLOC_FAILED|ALLOCATION_FAILED", re.IGNORECASE)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on a GPU or on the CPU."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and _SAID.search(str(error)) is not None
    )


def release_cached_memory() -> None:
    """Give what torch keeps of the GPU's memory back, so that a retry doesn't meet its fragments."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
