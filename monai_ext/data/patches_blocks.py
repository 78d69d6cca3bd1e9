"""A label volume as blocks: read by several threads, each once per pass, and those without labels never again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from monai_ext.blocks import run_blocks
from monai_ext.data.volumes_zarr import storage_unit, stored_chunks
from monai_ext.errors import DataError
from monai_ext.places import Threads
from monai_ext.workflow import default_workers

# Edge of the blocks of an array in memory, and bytes of a block of a larger shard.
_EDGE = 128
_MAX_BYTES = 32 << 20

Box = tuple[np.ndarray, np.ndarray]


class LabelBlocks:
    """Whole chunks of a label, or parts of its shards; a voxel is labelled when it is neither 0 nor ``ignore_label``.

    Args:
        array: numpy or Zarr array (Z, Y, X).
        workers: threads; default one per CPU, at most 8. Processes would be faster, but take long to start and
            can't share an array in memory, nor the box found so far.
        name: name of the array in messages.
        ignore_label: value of the voxels that are no label; None for none.
    """

    def __init__(
        self,
        array: Any,
        workers: int | None = None,
        name: str | Path | None = None,
        ignore_label: float | None = None,
    ) -> None:
        self.name = name
        self.ignore_label = ignore_label
        self.array = array
        self.threads = Threads(default_workers() if workers is None else workers)
        self.starts, self.shape = block_layout(array)
        self._empty = np.zeros(len(self.starts), bool)
        self._lock = threading.Lock()

    def bounding_box(self) -> Box | None:
        """First voxel and the one after the last, (z, y, x) each, of all labels; None when there are none.

        Blocks come from the outside in, and those within what is found already are not read: of a dense label little
        more than its surface is.
        """
        stops = np.minimum(self.starts + self.shape, self.array.shape)
        low, high = np.array(self.array.shape), np.zeros(3, np.int64)

        def widen(index: int) -> None:
            with self._lock:
                if (low <= self.starts[index]).all() and (stops[index] <= high).all():
                    return
            found = _extent(self._read(index))
            if found is None:
                self._empty[index] = True
                return
            with self._lock:
                np.minimum(low, self.starts[index] + found[0], out=low)
                np.maximum(high, self.starts[index] + found[1], out=high)

        self._run(widen, self._outside_in(), "bounding box")
        return (low, high) if (high > 0).all() else None

    def for_each(self, work: Callable[[np.ndarray, np.ndarray], None], title: str) -> None:
        """``work(first voxel, labelled)`` for every block that isn't known to be empty; in threads, in any order."""
        self._run(lambda index: work(self.starts[index], self._read(index)), np.flatnonzero(~self._empty), title)

    def _read(self, index: int) -> np.ndarray:
        start = self.starts[index]
        try:
            values = self.array[tuple(map(slice, start, start + self.shape))]
        except Exception as error:  # each codec and store has its own
            raise DataError(
                f"the block at {tuple(start.tolist())} can't be read ({type(error).__name__}: {error}); is the file "
                "damaged?",
                self.name,
            ) from error
        labelled: np.ndarray = values != 0
        return labelled if self.ignore_label is None else labelled & (values != self.ignore_label)

    def _outside_in(self) -> np.ndarray:
        if not len(self.starts):
            return np.empty(0, np.int64)
        first, last = self.starts.min(axis=0), self.starts.max(axis=0)
        rank = np.abs(2 * self.starts - first - last) / np.maximum(last - first, 1)
        return np.argsort(-rank.max(axis=1), kind="stable")

    def _run(self, work: Callable[[int], None], indices: np.ndarray, title: str) -> None:
        for _ in run_blocks(work, indices.tolist(), self.threads, title, "block"):
            pass


def block_layout(array: Any) -> tuple[np.ndarray, np.ndarray]:
    """First voxels (N, axes) of the blocks that may hold other values than 0, and the voxels along each axis of one."""
    if isinstance(array, np.ndarray):
        grid = [-(-size // _EDGE) for size in array.shape]
        return np.stack(np.unravel_index(np.arange(np.prod(grid)), grid), axis=-1) * _EDGE, np.full(array.ndim, _EDGE)
    unit, chunk = np.array(storage_unit(array)), np.array(array.chunks)
    parts = unit // chunk
    while np.prod(parts * chunk) * array.dtype.itemsize > _MAX_BYTES and parts.max() > 1:
        axis = parts.argmax()
        parts[axis] //= next(factor for factor in range(2, parts[axis] + 1) if parts[axis] % factor == 0)
    shape = parts * chunk
    inner = np.stack(np.meshgrid(*map(np.arange, unit // shape), indexing="ij"), axis=-1) * shape
    starts = stored_chunks(array)[:, None] * unit + inner.reshape(-1, array.ndim)
    starts = starts.reshape(-1, array.ndim)
    return starts[(starts < array.shape).all(axis=1)], shape


def _extent(labelled: np.ndarray) -> Box | None:
    plane = np.logical_or.reduce(labelled, axis=0)
    profiles = [labelled.any(axis=(1, 2)), plane.any(axis=1), plane.any(axis=0)]
    where = [np.flatnonzero(profile) for profile in profiles]
    if not len(where[0]):
        return None
    return np.array([index[0] for index in where]), np.array([index[-1] + 1 for index in where])
