"""Worker processes that start clean."""

from __future__ import annotations

import multiprocessing
import multiprocessing.context
from collections.abc import Sequence


def worker_context(preload: Sequence[str]) -> multiprocessing.context.BaseContext:
    """A clean server process imports ``preload`` (MONAI takes seconds) once and forks the workers.

    Forking the calling process itself, which may have threads, could deadlock.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    return context
