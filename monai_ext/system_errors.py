"""Errors of the operating system in one sentence: the file, what is missing, what to do."""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator
from pathlib import Path

from monai_ext.errors import WriteError

_ROOM = "make room there, or name another folder"
_RIGHTS = "it is another user's or protected; ask for the right to use it, or name another folder"
_FILE_SYSTEM = (
    "its file system has no file locks or no hard links; name a folder on another one, such as a local disk, or have "
    "it mounted with them"
)
_HANDLES = "the limit on open files is reached; raise it (ulimit -n), or take fewer workers"
_DEVICE = "its disk or server fails; look at it, or name another folder"
_NAME = "name another file or folder"

_ADVICE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), _ROOM),
    **dict.fromkeys((errno.EACCES, errno.EPERM), _RIGHTS),
    errno.EROFS: "name a folder that can be written",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f), or name another folder",
    **dict.fromkeys((errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP), _FILE_SYSTEM),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), _HANDLES),
    **dict.fromkeys((errno.EIO, errno.ESTALE), _DEVICE),
    **dict.fromkeys((errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG), _NAME),
}
# "[Errno 28] No space left on device: '/data/a.npy'", as Python shows an OSError.
_SHOWN = re.compile(r"\[Errno (\d+)\] (.*?)(?:: '(.*)')?")


def explained(error: OSError) -> str | None:
    """The sentence for an error of the system without its file: what is missing, what to do.

    Args:
        error: any; ``None`` for one that has nothing to do with folders, disks and rights.
    """
    advice = _ADVICE.get(error.errno or 0)
    return None if advice is None else f"{error.strerror}; {advice}"


def read_back(text: str) -> OSError | None:
    """The error that Python shows by this text; ``None`` where it is no error of the system.

    Args:
        text: such as ``[Errno 28] No space left on device: '/data/a.npy'``.
    """
    shown = _SHOWN.fullmatch(text)
    return None if shown is None else OSError(int(shown[1]), shown[2], shown[3])


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Name the file in errors of the system: the system itself names none where a disk is full.

    Args:
        path: file or folder that is written in the block.

    Raises:
        WriteError: for any error of the system with a number.
        OSError: of the block, when it has none, as a ``WriteError``.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise WriteError(f"could not write {path}: {explained(error) or error.strerror}") from error
