"""The end of a prediction: coarser levels, and metadata that name them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import torch

from monai_ext.data import decode_normals
from monai_ext.inferers.streaming.geometry import Region, VoxelSpace
from monai_ext.inferers.streaming.manifest import ProgressManifest
from monai_ext.inferers.streaming.output import OutputStore
from monai_ext.inferers.streaming.targets import StoredTarget, unit_vectors

# Each takes the memory of 8 units in float32.
_UNITS_AT_ONCE = 4


def add_levels(store: OutputStore, manifest: ProgressManifest, space: VoxelSpace, levels: int) -> None:
    """Add ``levels`` coarser levels, each half as large: scores and values as means, vectors at length 1 again.

    A level is recorded when it is complete; after a kill an unfinished one is made again, with the same bytes. Viewers
    see the levels when all are there. Zeros of a level are not stored; its record lists the stored chunks.

    Args:
        store: output whose blocks are all written.
        manifest: progress manifest of the prediction, locked.
        space: voxel space of level 0.
        levels: number of levels besides level 0; existing levels stay.
    """
    store.folder.sweep()
    for level in range(1, levels + 1):
        for name in store.targets:
            if manifest.step(step_name(name, level)) is None:
                keys = _make_level(store, name, level)
                manifest.record_step(step_name(name, level), {"chunks": {name: keys}})
    complete = 1
    while all(manifest.step(step_name(name, complete)) is not None for name in store.targets):
        complete += 1
    store.set_levels(complete, space)


def default_levels(shape: Sequence[int]) -> int:
    """How many coarser levels it takes until no side has more than 512 voxels, which a viewer shows at once."""
    return max(0, math.ceil(math.log2(max(shape) / 512)))


def step_name(name: str, level: int) -> str:
    """Name of a level's record."""
    return f"levels/{name}.{level}"


def _make_level(store: OutputStore, name: str, level: int) -> list[str]:
    store.create_level(name, level)
    finer = store.level_shape(level - 1)

    def make(region: Region) -> list[str]:
        z, y, x = (slice(2 * part.start, min(2 * part.stop, size)) for part, size in zip(region, finer, strict=True))
        values = store.read(name, (z, y, x), level - 1)
        return store.write(name, region, halved(values, store.targets[name]), level) if values.any() else []

    with ThreadPoolExecutor(min(torch.get_num_threads(), _UNITS_AT_ONCE)) as executor:
        return [key for keys in executor.map(make, units(store, level)) for key in keys]


def units(store: OutputStore, level: int) -> list[Region]:
    """Regions of a level that are written at once: its storage units."""
    axes = (
        [slice(start, min(start + edge, size)) for start in range(0, size, edge)]
        for size, edge in zip(store.level_shape(level), store.unit, strict=True)
    )
    return [(z, y, x) for z, y, x in product(*axes)]


def halved(stored: np.ndarray, target: StoredTarget) -> np.ndarray:
    """Means of 2³ voxels of stored values, or of fewer at an odd end; encoded as the input."""
    values = stored if stored.ndim == 4 else stored[None]
    if target.kind == "vectors":
        values = decode_normals(values, channel_axis=0)
    for axis in (1, 2, 3):
        if values.shape[axis] % 2:
            # the mean of a voxel and its copy is the voxel
            values = np.concatenate([values, np.take(values, [-1], axis=axis)], axis=axis)
        even, odd = (np.take(values, range(first, values.shape[axis], 2), axis=axis) for first in (0, 1))
        values = (even.astype(np.float32) + odd) / np.float32(2)
    if target.kind == "vectors":
        return target.encode(unit_vectors(torch.from_numpy(values))).numpy()
    if target.dtype != "float32":
        values = np.rint(values).astype(target.dtype)
    return values[0] if target.channels == 1 else values
