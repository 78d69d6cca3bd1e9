"""Errors of reading a file in plain words."""

from __future__ import annotations

import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from monai_ext.errors import DataError


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Make whatever goes wrong one sentence that names the file, which must be a file and not empty.

    Args:
        path: of the file.

    Raises:
        DataError: in place of all other errors but a lack of memory.
        MemoryError: where a file that fits doesn't any more.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DataError("is not a file", path, code="unreadable")
        if status.st_size == 0:
            raise DataError("is empty (0 bytes); copy or download it again", path, code="unreadable")
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:
        raise DataError(_reason(error), path, code="unreadable") from error


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "file not found"
    if isinstance(error, PermissionError):
        return "may not be read (permission denied)"
    if isinstance(error, EOFError):
        return "is truncated (its voxels end early); copy or download it again"
    if isinstance(error, zlib.error) or type(error).__module__.startswith("isal"):
        return f"is damaged ({error}); copy or download it again"
    return f"can't be read ({type(error).__name__}: {' '.join(str(error).split())})"
