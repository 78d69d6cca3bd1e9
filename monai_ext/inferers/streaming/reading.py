"""The input: its voxel space, and the voxels of a tile column, read ahead by whole chunks, each chunk once."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import closing
from itertools import product
from pathlib import Path
from queue import Full, Queue
from threading import Event, Thread
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from monai_ext.data.found_volume import volume_space
from monai_ext.data.volumes_zarr import open_volume
from monai_ext.errors import DataError
from monai_ext.inferers.streaming.chunk_cache import ChunkCache, rectangles
from monai_ext.inferers.streaming.geometry import Region, Size, VoxelSpace, common, within

# Thin chunks are read together, as each access takes time.
_LEAST_PLANES = 16
_POLL_SECONDS = 0.1

Item = TypeVar("Item")


class InputVolume:
    """A Zarr volume (Z, Y, X) that names itself and the region when it can't be read.

    Args:
        source: path or URL, see `monai_ext.data.volumes_zarr.open_volume`.
        level: resolution level of an OME-Zarr image.
        channel: index from 0, where it has several.
        timepoint: index from 0, where it has several.
    """

    def __init__(
        self, source: str | Path, level: int = 0, channel: int | None = None, timepoint: int | None = None
    ) -> None:
        self.source = source
        self.array = open_volume(source, level, channel, timepoint)

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


def voxel_space(source: str | Path, level: int = 0) -> VoxelSpace:
    """The voxel space of one level of an OME-Zarr image; voxels of size 1 for an array, or where it isn't given."""
    return VoxelSpace(*volume_space(source, level))


class _Slab(NamedTuple):
    voxels: np.ndarray
    occupied: np.ndarray
    """Whether a plane has a voxel that isn't 0."""
    nonfinite: np.ndarray | None
    """The NaN and infinite voxels, which are 0 in ``voxels``; None where there are none."""


class TileColumnReader:
    """Windows of a tile column, taken from slabs of whole chunks.

    Args:
        volume: volume to read.
        y, x: extent of the column's windows; may reach beyond the volume, where all is 0.
        executor: threads that read.
        cache: chunks that other columns read, or will need.
        later: numbers and extents (y, x) of the columns that are read after this one.
    """

    def __init__(
        self,
        volume: InputVolume,
        y: slice,
        x: slice,
        executor: Executor,
        cache: ChunkCache,
        later: Mapping[int, tuple[slice, slice]],
    ) -> None:
        self._volume, self._cache = volume, cache
        self._low = (0, max(y.start, 0), max(x.start, 0))
        self._high = (volume.shape[0], min(y.stop, volume.shape[1]), min(x.stop, volume.shape[2]))
        chunk = volume.array.chunks[0]
        self._planes = -(-_LEAST_PLANES // chunk) * chunk
        self._executor = executor
        self._slabs: dict[int, Future[_Slab]] = {}
        _, *self._chunk = volume.array.chunks
        low, high = zip(*map(self._chunks, (0, 1), (y, x)), strict=True)
        self._first, self._until = low, np.full([b - a for a, b in zip(low, high, strict=True)], -1)
        for column, extent in sorted(later.items()):
            places = [
                slice(max(a - first, 0), max(b - first, 0))
                for first, (a, b) in zip(low, map(self._chunks, (0, 1), extent), strict=True)
            ]
            self._until[tuple(places)] = column

    def request(self, planes: slice) -> None:
        """Start reading these planes, if they aren't read yet."""
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

    def refuse_nonfinite(self, region: Region, block: Region, kept: np.ndarray | None) -> None:
        """Raise `DataError` when a part ``region`` of a block has NaN or infinite voxels where ``kept`` (or all) is."""
        count = 0
        for number in self._numbers(region[0]):
            bad = self._slabs[number].result().nonfinite
            if bad is None:
                continue
            first = number * self._planes
            z = slice(max(region[0].start, first), min(region[0].stop, first + len(bad)))
            own = bad[
                (
                    within(z, slice(first, 0)),
                    *(within(p, slice(low, 0)) for p, low in zip(region[1:], self._low[1:], strict=True)),
                )
            ]
            if kept is not None:
                own = own & kept[tuple(within(p, whole) for p, whole in zip((z, *region[1:]), block, strict=True))]
            count += int(own.sum())
        if count:
            voxels = ", ".join(f"{part.start}:{part.stop}" for part in region)
            raise DataError(
                f"the region [{voxels}] has {count} voxels that are NaN or infinite; repair it, leave it out by a "
                "mask, or choose nonfinite_voxels 'fill' (0 in their place). Finished blocks are kept: start again",
                self._volume.source,
            )

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
        """Release the slabs that end before this plane."""
        for number in [number for number in self._slabs if (number + 1) * self._planes <= before]:
            del self._slabs[number]

    def _numbers(self, planes: slice) -> range:
        start, stop = max(planes.start, 0), min(planes.stop, self._high[0])
        return range(start // self._planes, -(-stop // self._planes))

    def _read(self, number: int) -> _Slab:
        z = slice(number * self._planes, min((number + 1) * self._planes, self._high[0]))
        voxels = self._voxels(number, z)
        if voxels.dtype == np.float64:  # as the network gets them; too large ones become infinite
            with np.errstate(over="ignore"):
                voxels = voxels.astype(np.float32)
        nonfinite = ~np.isfinite(voxels) if voxels.dtype.kind == "f" else None
        if nonfinite is not None and nonfinite.any():
            voxels = np.where(nonfinite, voxels.dtype.type(0), voxels)
        else:
            nonfinite = None
        return _Slab(voxels, np.asarray(voxels.any(axis=(1, 2))), nonfinite)

    def _chunks(self, axis: int, part: slice) -> tuple[int, int]:
        """Numbers of the first chunk along Y or X that a part of the volume touches, and of the one after the last."""
        start, stop = max(part.start, 0), min(part.stop, self._volume.shape[axis + 1])
        return start // self._chunk[axis], -(-stop // self._chunk[axis])

    def _voxels(self, number: int, z: slice) -> np.ndarray:
        own = tuple(map(slice, self._low[1:], self._high[1:]))
        keys = {
            place: (number, place[0] + self._first[0], place[1] + self._first[1])
            for place in np.ndindex(*self._until.shape)
        }
        kept = {place: chunk for place, key in keys.items() if (chunk := self._cache.get(key)) is not None}
        if not kept and (self._until < 0).all():
            return self._volume.read((z, *own))
        voxels = np.empty([part.stop - part.start for part in (z, *own)], self._volume.array.dtype)
        missing = np.ones(self._until.shape, bool)
        for place, chunk in kept.items():
            missing[place] = False
            _paste(chunk, self._extent(*(slice(at, at + 1) for at in place)), voxels, own)
        for rectangle in rectangles(missing):
            extent = self._extent(*rectangle)
            read = self._volume.read((z, *extent))
            _paste(read, extent, voxels, own)
            for place in product(*(range(part.start, part.stop) for part in rectangle)):
                if self._until[place] >= 0:
                    part = self._extent(*(slice(at, at + 1) for at in place))
                    self._cache.put(
                        keys[place], read[(slice(None), *map(within, part, extent))], int(self._until[place])
                    )
        return voxels

    def _extent(self, *places: slice) -> tuple[slice, ...]:
        """Voxels along Y and X of chunks, counted from the first."""
        return tuple(
            slice((first + part.start) * edge, min((first + part.stop) * edge, size))
            for part, first, edge, size in zip(places, self._first, self._chunk, self._volume.shape[1:], strict=True)
        )


def _paste(source: np.ndarray, extent: Sequence[slice], target: np.ndarray, own: Sequence[slice]) -> None:
    """Copy what two arrays (Z, Y, X) share, by their extents along Y and X."""
    shared = tuple(map(common, extent, own))
    target[(slice(None), *map(within, shared, own))] = source[(slice(None), *map(within, shared, extent))]


class Ahead(Generic[Item]):
    """A generator run by a thread, at most ``count`` items ahead; its errors are raised here.

    Use it in a ``with`` statement, which ends the thread.
    """

    def __init__(self, items: Generator[Item], count: int) -> None:
        self._items = items
        self._queue: Queue[tuple[bool, Item | BaseException | None]] = Queue(count)
        self._stopped = Event()
        self._thread = Thread(target=self._fill, daemon=True)

    def __enter__(self) -> Iterator[Item]:
        self._thread.start()
        return self._given()

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _given(self) -> Iterator[Item]:
        while True:
            more, item = self._queue.get()
            if isinstance(item, BaseException):
                raise item
            if not more:
                return
            yield item  # type: ignore[misc]

    def _fill(self) -> None:
        try:
            with closing(self._items):
                for item in self._items:
                    if not self._put((True, item)):
                        return
            self._put((False, None))
        except BaseException as error:
            self._put((False, error))

    def _put(self, entry: tuple[bool, Item | BaseException | None]) -> bool:
        while not self._stopped.is_set():
            try:
                self._queue.put(entry, timeout=_POLL_SECONDS)
                return True
            except Full:
                continue
        return False
