"""Memory that is freed stays with the process, for the next array of that size.

As it comes, glibc returns a large block to the system as soon as it is freed, and the next one's pages are zeroed anew:
a third of the CPU time of a large U-Net's training step.
"""

from __future__ import annotations

import ctypes
import os
import sys

# Parameters of mallopt, see its manual page.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def keep_freed_memory(keep: bool = True) -> None:
    """Let this process, and those forked from it, keep the memory that it frees, in one heap for all threads.

    What the process takes stays at its peak, which arrays of several sizes raise by the holes between them;
    `release_freed_memory` gives back what isn't in use. Does nothing where the C library isn't glibc, and where the
    environment already says what glibc is to do (``MALLOC_TRIM_THRESHOLD_`` or another of mallopt(3),
    ``GLIBC_TUNABLES``). Source: mallopt(3) of the Linux manual pages.

    Args:
        keep: false to give memory back as it is freed, as glibc does by itself.
    """
    chosen = any(name.startswith("MALLOC_") and name.endswith("_") for name in os.environ)
    if not chosen and "glibc.malloc" not in os.environ.get("GLIBC_TUNABLES", ""):
        maps, trim = (0, -1) if keep else (1 << 16, 1 << 17)
        for parameter, value in ((_ARENA_MAX, 1), (_MMAP_MAX, maps), (_TRIM_THRESHOLD, trim)):
            _call_glibc("mallopt", parameter, value)


def release_freed_memory() -> None:
    """Give the memory that is free within this process back to the system."""
    _call_glibc("malloc_trim", 0)


def _call_glibc(function: str, *given: int) -> None:
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), function):
        getattr(library, function)(*given)
