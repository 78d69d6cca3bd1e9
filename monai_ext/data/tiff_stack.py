"""A folder of 2-D TIFF slices as one volume, of which crops are read without the rest."""

from __future__ import annotations

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

        Of uncompressed slices only the rows of the box are read. Others are decoded whole, and kept in ``cache``.

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
        slices, rows, columns = map(range, start, stop)
        if self.offsets is not None:
            self._read_in_place(part, slices, rows, columns)
            return box
        for target, index in zip(part, slices, strict=False):
            image = self._decode(index) if cache is None else cache.get(self, index, self._decode)
            target[...] = image[rows.start : rows.stop, columns.start : columns.stop]
        return box

    def read_slice(self, index: int) -> np.ndarray:
        """A whole slice (Y, X), in native byte order.

        Args:
            index: number of the slice, from 0.

        Raises:
            DataError: see `read`.
        """
        return self.read((index, 0, 0), (1, *self.shape[1:]))[0]

    def _read_in_place(self, part: np.ndarray, slices: range, rows: range, columns: range) -> None:
        # One call for the rows of each slice: a mapping is filled page by page, which takes longer.
        assert self.offsets is not None
        dtype = np.dtype(self.dtype)
        pixels = np.empty((len(rows), self.shape[2]), dtype)
        # from the first wanted pixel to the last one
        wanted = pixels.reshape(-1)[: (len(rows) - 1) * self.shape[2] + len(columns)]
        first = (rows.start * self.shape[2] + columns.start) * dtype.itemsize
        for target, index in zip(part, slices, strict=False):
            path = os.path.join(self.folder, self.names[index])
            try:
                with open(path, "rb", buffering=0) as file:
                    self._check_unchanged(index, os.fstat(file.fileno()))
                    file.seek(self.offsets[index] + first)
                    read = file.readinto(wanted.view(np.uint8).data)
            except OSError as error:
                raise DataError(reason(error), path) from error
            if read != wanted.nbytes:
                raise DataError(f"is truncated ({read} of {wanted.nbytes} bytes are there); {DAMAGED}", path)
            target[...] = pixels[:, : len(columns)]

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
