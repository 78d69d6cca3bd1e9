"""The processes below one that is about to be killed."""

import time

import psutil


def descendants(pid):
    """Children, their children and so on; of a worker pool: server process, resource tracker and workers."""
    return psutil.Process(pid).children(recursive=True)


def left_of(processes, seconds=60):
    """Those that still live after so many seconds; returns as soon as none does."""
    deadline = time.monotonic() + seconds
    while (living := [one for one in processes if _lives(one)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return living


def _lives(process):
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
