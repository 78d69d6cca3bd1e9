"""Errors of the system on demand, for any user and without mounts."""

import contextlib
import errno
import os
import resource


def failing(number):
    """A function of the system that fails with this error."""

    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    return fail


@contextlib.contextmanager
def full_while(folder, name, monkeypatch):
    """No file reaches the disk while there is one that matches ``name``: it holds the last room."""
    flush = os.fsync

    def room(handle):
        if list(folder.glob(name)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", room)
        yield


@contextlib.contextmanager
def files_up_to(size):
    """As on a disk with so many bytes left: what is written behind them fails, in the system itself."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
