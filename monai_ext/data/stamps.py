"""Sizes and times of files, by which caches notice that a case has changed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from monai_ext.data.volumes import files_of
from monai_ext.errors import DataError


def stamp_of(files: Iterable[str | Path]) -> tuple[int, int]:
    """Changes with each of the files that are read together: a slice, or all slices of a volume.

    Returns:
        Of one file, its size in bytes and its modification time in ns; of several, all sizes together, and a hash of
        each one's size and time (slices have the same size, and a copy may keep an old time).

    Raises:
        DataError: naming the file that is missing or can't be read.
    """
    found = []
    for path in files:
        try:
            status = os.stat(path)
        except OSError as error:
            raise DataError(f"can't be read ({error.strerror})", path, "unreadable") from error
        found.append((status.st_size, status.st_mtime_ns))
    digest = hashlib.sha256(repr(found).encode()).hexdigest()
    return found[0] if len(found) == 1 else (sum(size for size, _ in found), int(digest[:14], 16))


def stamps_of(*images: str | Path) -> list[list[int]]:
    """What `stamp_of` gives for each file of volumes and slices.

    Args:
        images: files, of which a header counts with the file beside it that holds its voxels; a folder is one series.

    Raises:
        DataError: naming what is missing, can't be read, or is a header without its voxels.
    """
    found: list[list[Path]] = []
    for image in map(Path, images):
        found += [sorted(image.iterdir())] if image.is_dir() else ([file] for file in files_of(image))
    return [list(stamp_of(files)) for files in found]
