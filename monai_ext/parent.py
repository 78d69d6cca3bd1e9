"""Worker processes end with the process that they work for."""

from __future__ import annotations

import multiprocessing
import os
import threading


def end_with_parent() -> None:
    """In a worker process of `multiprocessing`: end when the parent does, however that dies (kill -9).

    A pipe that closes with the parent says so, except where a process forked later holds its other end, too. So the
    number of the parent is looked at as well: it changes when the system takes the worker over.
    """
    parent, above = multiprocessing.parent_process(), os.getppid()
    assert parent is not None

    def follow() -> None:
        while parent.is_alive() and os.getppid() == above:
            parent.join(1)
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
