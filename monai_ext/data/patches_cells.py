"""Label counts and bounding boxes of overlapping patches, from cells that each voxel belongs to one of."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence

import numpy as np


class PatchCells:
    """Statistics of the cells between all starts and ends of candidate patches.

    A candidate is a run of whole cells along each axis, so that the sum of their counts and the union of their
    bounding boxes are exactly its own; each voxel is read once, however many candidates it lies in.

    Args:
        starts: first voxels of the candidates along Z, Y, X, ascending; every combination is a candidate. Neighbours
            touch or overlap.
        patch_size: voxels along Z, Y, X.
    """

    def __init__(self, starts: Sequence[np.ndarray], patch_size: Sequence[int] | np.ndarray) -> None:
        self.starts = [np.asarray(axis) for axis in starts]
        self.patch_size = np.asarray(patch_size)
        self.cuts = [np.union1d(axis, axis + size) for axis, size in zip(self.starts, self.patch_size, strict=True)]
        edges = [int(np.diff(cuts).max()) for cuts in self.cuts]
        shape = [len(cuts) - 1 for cuts in self.cuts]
        self._count = np.zeros(shape, np.min_scalar_type(np.prod(edges, dtype=object)))
        # Distance of the first label from the cell's end and of the last from its start, inclusive; 0 is "no label".
        # So both are combined by a maximum, and cells without labels stay memory that was never touched.
        self._first = np.zeros((3, *shape), np.min_scalar_type(max(edges)))
        self._last = np.zeros_like(self._first)
        self._lock = threading.Lock()

    def add(self, origin: np.ndarray, labelled: np.ndarray) -> None:
        """Add a block (Z, Y, X) of booleans at ``origin``; blocks don't overlap. Threads may call it together."""
        low = np.maximum(origin, [cuts[0] for cuts in self.cuts])
        high = np.minimum(origin + labelled.shape, [cuts[-1] for cuts in self.cuts])
        if (low >= high).any():
            return
        labelled = labelled[tuple(map(slice, low - origin, high - origin))]
        cells, edges = [], []
        for cuts, a, b in zip(self.cuts, low, high, strict=True):
            run = slice(int(np.searchsorted(cuts, a, "right")) - 1, int(np.searchsorted(cuts, b, "left")))
            cells.append(run)
            edges.append(np.clip(cuts[run.start : run.stop + 1], a, b) - a)

        planes = _by_cell(np.add, labelled.view(np.uint8), edges[0], 0, np.uint32)
        count = _by_cell(np.add, _by_cell(np.add, planes, edges[1], 1, np.uint64), edges[2], 2, np.uint64)
        if not count.any():
            return
        present = planes > 0
        profiles = [
            _by_cell(np.logical_or, _by_cell(np.logical_or, labelled, edges[1], 1), edges[2], 2),
            _by_cell(np.logical_or, present, edges[2], 2),
            _by_cell(np.logical_or, present, edges[1], 1),
        ]
        reaches = [self._reach(axis, profiles[axis], low[axis], cells[axis], edges[axis]) for axis in range(3)]
        here = tuple(cells)
        with self._lock:
            self._count[here] += count.astype(self._count.dtype)
            for axis, (first, last) in enumerate(reaches):
                np.maximum(self._first[axis][here], first, out=self._first[axis][here])
                np.maximum(self._last[axis][here], last, out=self._last[axis][here])

    def _reach(
        self, axis: int, profile: np.ndarray, low: int, cells: slice, edges: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """First and last labels along ``axis`` in each cell, as `_first` and `_last` keep them."""
        cuts, repeats = self.cuts[axis], np.diff(edges)
        position = low + np.arange(profile.shape[axis])
        along = [1, 1, 1]
        along[axis] = -1
        distances = (
            np.repeat(cuts[cells.start + 1 : cells.stop + 1], repeats) - position,
            position + 1 - np.repeat(cuts[cells], repeats),
        )
        first, last = (
            np.maximum.reduceat(profile * distance.astype(self._first.dtype).reshape(along), edges[:-1], axis)
            for distance in distances
        )
        return first, last

    def accepted(self, min_bbox_percent: float, min_labeled_ratio: float) -> list[tuple[int, int, int]]:
        """First voxels (z, y, x) of the candidates with enough labels, X fastest.

        Args:
            min_bbox_percent: fraction of the patch that the bounding box of its labels has to fill.
            min_labeled_ratio: fraction of the patch that has to be labelled. A patch without labels never counts.
        """
        runs = [
            [slice(*np.searchsorted(cuts, (start, start + size))) for start in starts]
            for starts, cuts, size in zip(self.starts, self.cuts, self.patch_size, strict=True)
        ]
        voxels = int(np.prod(self.patch_size))
        found: list[tuple[int, int, int]] = []
        # one layer at a time: the statistics of all candidates together would be larger than those of the cells
        for z, layer in zip(self.starts[0], runs[0], strict=True):
            count = _by_run(np.add, self._count[layer].sum(axis=0, dtype=np.int64), runs)
            volume = np.ones_like(count)
            for axis in range(3):
                volume *= self._length(axis, layer, runs)
            good = (count > 0) & (volume / voxels >= min_bbox_percent) & (count / voxels >= min_labeled_ratio)
            found += [(int(z), int(self.starts[1][y]), int(self.starts[2][x])) for y, x in np.argwhere(good)]
        return found

    def _length(self, axis: int, layer: slice, runs: list[list[slice]]) -> np.ndarray:
        """Edges along ``axis`` of the label's bounding boxes in one layer of candidates; meaningless without labels."""
        along = [1, 1, 1]
        along[axis] = -1
        cuts = self.cuts[axis][layer.start : layer.stop + 1] if axis == 0 else self.cuts[axis]
        first, last = (reach[axis][layer].astype(np.int64) for reach in (self._first, self._last))
        low = np.where(first, cuts[1:].reshape(along) - first, cuts[-1])
        high = np.where(last, cuts[:-1].reshape(along) + last, cuts[0])
        return _by_run(np.maximum, high.max(axis=0), runs) - _by_run(np.minimum, low.min(axis=0), runs)


def _by_cell(ufunc: np.ufunc, array: np.ndarray, edges: np.ndarray, axis: int, dtype: type | None = None) -> np.ndarray:
    """Reduce between the edges along one axis; on large arrays many times as fast as ``ufunc.reduceat``."""
    front = (slice(None),) * axis
    return np.stack(
        [ufunc.reduce(array[(*front, slice(a, b))], axis=axis, dtype=dtype) for a, b in itertools.pairwise(edges)], axis
    )


def _by_run(ufunc: np.ufunc, layer: np.ndarray, runs: list[list[slice]]) -> np.ndarray:
    """Reduce a layer of cells (Y, X) to one of candidates (Y, X)."""
    rows = np.stack([ufunc.reduce(layer[run], axis=0) for run in runs[1]])
    return np.stack([ufunc.reduce(rows[:, run], axis=1) for run in runs[2]], axis=1)
