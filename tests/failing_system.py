"""Errors of the system on demand, for any user and without mounts."""

import builtins
import contextlib
import errno
import fcntl
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


# For the rest of a process:


def room_for(size):
    """No file gets larger, as with `files_up_to`."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def without_locks():
    """As on a network drive that knows none."""
    fcntl.lockf = fcntl.flock = failing(errno.ENOLCK)


def without_links():
    """As on a FAT drive, for hard links."""
    os.link = failing(errno.EOPNOTSUPP)


def with_locks_of_another_user():
    """Nobody may open the locks."""
    plain = open

    def guarded(file, *given, **named):
        return failing(errno.EACCES)() if str(file).endswith("/.lock") else plain(file, *given, **named)

    builtins.open = guarded
