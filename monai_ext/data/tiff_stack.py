"""A folder of 2-D TIFF slices as one volume, of which crops are read without the rest."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from monai_ext.data.slice_cache import SliceCache
from monai_ext.data.tiff_slices import (
    DAMAGED,
    SliceFile,
    SliceHeader,
    check_mask_header,
    decode_slice,
    disagreements,
    list_slices,
    native,
    read_slice_header,
    reason,
)
from monai_ext.errors import DataError

# Packed, they are compared and pickled as fast as one number.
_STAMP = struct.Struct("<qq")


def pack_stamps(files: Sequence[SliceFile]) -> bytes:
    """Sizes and modification times of slices, as `TiffStack` keeps them."""
    return b"".join(_STAMP.pack(file.size, file.mtime) for file in files)


@dataclass(frozen=True)
class TiffStack:
    """Locations of a stack's voxels on disk; holds no voxels, can be pickled, and compares by value.

    Attributes:
        folder: folder of the slices.
        names: names of the files in natural order (``slice_2`` before ``slice_10``, whatever the zero padding).
        shape: voxels along Z (files), Y (rows), X (columns).
        dtype: type of the voxels in the files, with byte order, for example ">u2".
        offsets: first byte of each slice's pixels, when all slices are uncompressed and in one piece; else None.
        stamps: size and modification time in ns of each slice, 8 bytes each; others mean that the data changed.
    """

    folder: str
    names: tuple[str, ...] = field(repr=False)
    shape: tuple[int, int, int]
    dtype: str
    offsets: tuple[int, ...] | None = field(repr=False)
    stamps: bytes = field(repr=False)

    @classmethod
    def scan(cls, folder: str | Path, files: Sequence[SliceFile] | None = None, mask: bool = False) -> TiffStack:
        """Read the headers of all slices (and no voxel).

        Args:
            folder: folder of the slices.
            files: result of `list_slices` for ``folder``, when it is known already.
            mask: refuse lossy compressions.

        Raises:
            DataError: naming the file (or the empty folder): not a TIFF, empty, truncated, several pages, colour, of
                another shape or data type than most slices, of a type that isn't a real number, a lossy mask.
        """
        files = list_slices(folder) if files is None else files
        root = Path(os.path.abspath(folder))
        headers: list[SliceHeader] = []
        for file in files:
            headers.append(read_slice_header(root / file.name))
            if mask:
                check_mask_header(headers[-1], root / file.name)
        named = dict(zip((file.name for file in files), headers, strict=True))
        for name, difference in disagreements(named).items():
            raise DataError(difference, root / name)
        in_place = all(header.offset is not None and header.dtype == headers[0].dtype for header in headers)
        return cls(
            folder=str(root),
            names=tuple(file.name for file in files),
            shape=(len(files), *headers[0].shape),
            dtype=headers[0].dtype if in_place else native(headers[0].dtype).str,
            offsets=tuple(header.offset or 0 for header in headers) if in_place else None,
            stamps=pack_stamps(files),
        )

    def __fspath__(self) -> str:
        return self.folder

    def __str__(self) -> str:
        return self.folder

    def __deepcopy__(self, memo: dict[int, Any]) -> TiffStack:
        return self

    def path(self, index: int) -> Path:
        """File of a slice.

        Args:
            index: number of the slice, from 0.
        """
        return Path(self.folder, self.names[index])

    def read(self, start: Sequence[int], size: Sequence[int], cache: SliceCache | None = None) -> np.ndarray:
        """The voxels of a box; where it reaches beyond the end of an axis, zeros.

        Uncompressed slices are mapped, and only rows and columns of the box are copied. Others are decoded whole, and
        kept in ``cache``.

        Args:
            start: first voxel along Z, Y, X, from 0.
            size: voxels along Z, Y, X.
            cache: cache of decoded slices; without one they are decoded each time.

        Returns:
            array of shape ``size``, of the files' type in native byte order.

        Raises:
            DataError: naming the file that is missing, damaged, or has changed since it was scanned.
            ValueError: for a negative start.
        """
        if min(start) < 0:
            raise ValueError(f"TiffStack.read: start must not be negative, got {tuple(start)}")
        box = np.zeros(tuple(size), native(self.dtype))
        stop = [min(first + length, end) for first, length, end in zip(start, size, self.shape, strict=True)]
        if any(first >= last for first, last in zip(start, stop, strict=True)):
            return box
        part = box[:, : stop[1] - start[1], : stop[2] - start[2]]
        for target, index in enumerate(range(start[0], stop[0])):
            part[target] = self._rows(index, start[1], stop[1], cache)[:, start[2] : stop[2]]
        return box

    def read_slice(self, index: int) -> np.ndarray:
        """A whole slice (Y, X), in native byte order.

        Args:
            index: number of the slice, from 0.

        Raises:
            DataError: see `read`.
        """
        return self.read((index, 0, 0), (1, *self.shape[1:]))[0]

    def _rows(self, index: int, first: int, last: int, cache: SliceCache | None) -> np.ndarray:
        if self.offsets is not None:
            return self._mapped(index, self.offsets[index], first, last)
        image = self._decode(index) if cache is None else cache.get(self, index, self._decode)
        return image[first:last]

    def _mapped(self, index: int, offset: int, first: int, last: int) -> np.ndarray:
        dtype = np.dtype(self.dtype)
        stride = self.shape[2] * dtype.itemsize
        begin, end = offset + first * stride, offset + last * stride
        page = begin - begin % mmap.ALLOCATIONGRANULARITY
        path = os.path.join(self.folder, self.names[index])
        try:
            descriptor = os.open(path, os.O_RDONLY)
            try:
                status = os.fstat(descriptor)
                self._check_unchanged(index, status)
                # Touching a mapping behind the end of its file kills the process (SIGBUS).
                if status.st_size < offset + self.shape[1] * stride:
                    raise DataError(f"is truncated ({status.st_size} bytes); {DAMAGED}", path)
                # Without this, the first touch makes the system read far more than the rows from a disk.
                if hasattr(os, "posix_fadvise"):
                    os.posix_fadvise(descriptor, begin, end - begin, os.POSIX_FADV_WILLNEED)
                # unmapped as soon as no array refers to it
                mapping = mmap.mmap(descriptor, end - page, access=mmap.ACCESS_READ, offset=page)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise DataError(reason(error), path) from error
        return np.ndarray((last - first, self.shape[2]), dtype, mapping, begin - page)

    def _decode(self, index: int) -> np.ndarray:
        path = self.path(index)
        try:
            self._check_unchanged(index, os.stat(path))
        except OSError as error:
            raise DataError(reason(error), path) from error
        header, pixels = decode_slice(path)
        if header.shape != self.shape[1:] or native(header.dtype) != native(self.dtype):
            raise DataError("has changed since the data were scanned; start again", path)
        return pixels

    def _check_unchanged(self, index: int, status: os.stat_result) -> None:
        if _STAMP.unpack_from(self.stamps, index * _STAMP.size) != (status.st_size, status.st_mtime_ns):
            raise DataError("has changed since the data were scanned; start again", self.path(index))
