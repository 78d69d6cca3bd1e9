"""The voxels of one column of blocks, read ahead by whole chunks, each chunk once."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import NamedTuple

import numpy as np
import zarr

from monai_ext.data.volumes_zarr import open_volume
from monai_ext.errors import DataError
from monai_ext.inferers.streaming.geometry import Size

# Thin chunks are read together, as each reading has a price.
_LEAST_PLANES = 16


class InputVolume:
    """A Zarr volume (Z, Y, X) that names itself and the region when it can't be read.

    Args:
        source: path or URL, see `monai_ext.data.volumes_zarr.open_volume`.
        level: resolution level of an OME-Zarr image.
    """

    def __init__(self, source: str | Path, level: int = 0) -> None:
        self.source = source
        self.array: zarr.Array = open_volume(source, level)
        if self.array.ndim != 3:
            raise DataError(f"must be a volume (Z, Y, X), got the shape {self.array.shape}", source)

    @property
    def shape(self) -> Size:
        z, y, x = self.array.shape
        return z, y, x

    def read(self, region: Sequence[slice]) -> np.ndarray:
        try:
            return np.asarray(self.array[tuple(region)])
        except Exception as error:  # each codec and store has its own
            voxels = ", ".join(f"{part.start}:{part.stop}" for part in region)
            raise DataError(
                f"the region [{voxels}] can't be read ({type(error).__name__}: {error}); is a chunk damaged, or the "
                "store out of reach? Finished blocks are kept: repair it and start again",
                self.source,
            ) from error


class _Slab(NamedTuple):
    voxels: np.ndarray
    occupied: np.ndarray
    """Whether a plane has a voxel that isn't 0."""


class ColumnReader:
    """Windows of a column, taken from slabs of whole chunks.

    Args:
        volume: to read from.
        y, x: what the windows of the column read; may reach beyond the volume, where all is 0.
        executor: reads.
    """

    def __init__(self, volume: InputVolume, y: slice, x: slice, executor: Executor) -> None:
        self._volume = volume
        self._low = (0, max(y.start, 0), max(x.start, 0))
        self._high = (volume.shape[0], min(y.stop, volume.shape[1]), min(x.stop, volume.shape[2]))
        chunk = volume.array.chunks[0]
        self._planes = -(-_LEAST_PLANES // chunk) * chunk
        self._executor = executor
        self._slabs: dict[int, Future[_Slab]] = {}

    def request(self, planes: slice) -> None:
        """Have these planes read, if they aren't yet."""
        for number in self._numbers(planes):
            if number not in self._slabs:
                self._slabs[number] = self._executor.submit(self._read, number)

    def occupied(self, planes: slice) -> bool:
        """Whether one of these planes has a voxel that isn't 0; waits until they are read.

        Raises:
            DataError: when they can't be read.
        """
        found = False
        for number in self._numbers(planes):
            first = number * self._planes
            found |= bool(
                self._slabs[number].result().occupied[max(planes.start - first, 0) : planes.stop - first].any()
            )
        return found

    def fill(self, window: np.ndarray, start: Size) -> None:
        """Fill a window (Z, Y, X), zeros before, with the voxels from ``start`` on."""
        for number in self._numbers(slice(start[0], start[0] + window.shape[0])):
            slab = self._slabs[number].result().voxels
            corner = (number * self._planes, *self._low[1:])
            source, target = [], []
            for first, length, low, size in zip(start, window.shape, corner, slab.shape, strict=True):
                begin, end = max(first, low), min(first + length, low + size)
                source.append(slice(begin - low, end - low))
                target.append(slice(begin - first, end - first))
            window[tuple(target)] = slab[tuple(source)]

    def forget(self, before: int) -> None:
        """Let go of the slabs that end before this plane."""
        for number in [number for number in self._slabs if (number + 1) * self._planes <= before]:
            del self._slabs[number]

    def _numbers(self, planes: slice) -> range:
        start, stop = max(planes.start, 0), min(planes.stop, self._high[0])
        return range(start // self._planes, -(-stop // self._planes))

    def _read(self, number: int) -> _Slab:
        z = slice(number * self._planes, min((number + 1) * self._planes, self._high[0]))
        voxels = self._volume.read((z, *map(slice, self._low[1:], self._high[1:])))
        return _Slab(voxels, np.asarray(voxels.any(axis=(1, 2))))
