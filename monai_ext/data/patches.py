"""Training patches: positions with enough labels in a label volume of any size, found in one pass over its chunks."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from monai_ext.data.patches_blocks import LabelBlocks
from monai_ext.data.patches_cells import PatchCells
from monai_ext.data.volumes_zarr import open_volume
from monai_ext.errors import ConfigError, DataError

logger = logging.getLogger(__name__)


def find_patches(
    label: Any,
    patch_size: Sequence[int],
    min_bbox_percent: float = 0.95,
    min_labeled_ratio: float = 0.07,
    *,
    cover_tail: bool = False,
    ignore_label: float | None = None,
    workers: int | None = None,
) -> list[tuple[int, int, int]]:
    """Patches with enough labels; a voxel is labelled when it is neither 0 nor ``ignore_label``.

    Candidates start at the first voxel of the label's bounding box and continue in steps of half a patch (rounded down)
    as long as they lie within it. One counts when the bounding box of its own labels and their number are both large
    enough. Positions and order are those of the surface project's reference (ScrollPrize/villa), which reads every
    candidate by itself. Here each stored chunk is read at most twice, others not at all, and the memory taken is that
    of a block (a chunk, or 32 MiB of a shard) per worker and about 10 bytes for every labelled cell of half a patch.

    Args:
        label: numpy or Zarr array (Z, Y, X), or the path or URL of a Zarr array or OME-Zarr image (its finest level).
        patch_size: voxels along Z, Y, X.
        min_bbox_percent: fraction from 0 to 1 of the patch that the bounding box of its labels has to fill.
        min_labeled_ratio: fraction from 0 to 1 of the patch's voxels that have to be labelled.
        cover_tail: also take candidates that end where the bounding box ends (within the volume, where the box is
            shorter than the patch). The reference leaves that remainder out.
        ignore_label: value of the voxels that losses leave out: none of them is a label here.
        workers: threads; default one per CPU, at most 8. The result is the same for any number.

    Returns:
        first voxels (z, y, x), X fastest; no candidate without any label, even with thresholds of 0.

    Raises:
        ConfigError: for a patch size, a threshold or an ``ignore_label`` out of range.
        DataError: for a label that isn't 3-D, is empty, or smaller than the patch.
    """
    size = _checked(patch_size, min_bbox_percent, min_labeled_ratio, ignore_label)
    array, where = label, str(label.store_path) if isinstance(label, zarr.Array) else None
    if isinstance(label, str | Path):
        array, where = open_volume(label), str(label)
    _check_shape(array.shape, size, where)
    if ignore_label is not None and not _can_hold(array.dtype, ignore_label):
        logger.warning("%s: ignore_label %g is none of its values, which are %s", where, ignore_label, array.dtype)
    blocks = LabelBlocks(array, workers, where, ignore_label)
    box = blocks.bounding_box()
    if box is None:
        but = "" if ignore_label is None else f" and ignore_label {ignore_label:g}"
        raise DataError(f"the label is empty: no voxel differs from 0{but}, so there are no patches", where)
    if not cover_tail and (box[1] - box[0] < size).any():
        raise DataError(
            f"the label's bounding box, {_shown(box[1] - box[0])} voxels along Z, Y, X at {_shown(box[0])}, is smaller "
            f"than patch_size {_shown(size)}; take a smaller patch, or set cover_tail",
            where,
        )
    starts = [
        _starts(int(low), int(high), int(edge), length, cover_tail)
        for low, high, edge, length in zip(*box, size, array.shape, strict=True)
    ]
    cells = PatchCells(starts, size)
    blocks.for_each(cells.add, "finding patches")
    return cells.accepted(min_bbox_percent, min_labeled_ratio)


def _starts(low: int, high: int, size: int, length: int, cover_tail: bool) -> np.ndarray:
    """First voxels of the candidates along one axis, for labels from ``low`` to ``high`` (exclusive)."""
    starts = np.arange(low, high - size + 1, max(1, size // 2))
    if cover_tail and (not len(starts) or starts[-1] + size < high):
        starts = np.append(starts, high - size if high - size >= low else min(low, length - size))
    return starts


def _checked(
    patch_size: Sequence[int], min_bbox_percent: float, min_labeled_ratio: float, ignore_label: float | None
) -> np.ndarray:
    size = np.asarray(patch_size)
    if size.shape != (3,) or size.dtype.kind not in "iu" or (size < 1).any():
        raise ConfigError(f"find_patches: patch_size must be three positive integers (Z, Y, X), got {patch_size!r}")
    for name, value in (("min_bbox_percent", min_bbox_percent), ("min_labeled_ratio", min_labeled_ratio)):
        if not 0 <= value <= 1:
            raise ConfigError(f"find_patches: {name} is a fraction from 0 to 1, got {value}; 95 % is 0.95")
    if ignore_label is not None and not (np.isfinite(ignore_label) and ignore_label):
        raise ConfigError(f"find_patches: ignore_label must be a number other than 0, got {ignore_label}")
    return size.astype(np.int64)


def _can_hold(dtype: np.dtype[Any], value: float) -> bool:
    if dtype.kind not in "iu":
        return dtype.kind == "f"
    return value == int(value) and np.iinfo(dtype).min <= value <= np.iinfo(dtype).max


def _check_shape(shape: Sequence[int], size: np.ndarray, where: str | None) -> None:
    if len(shape) != 3:
        raise DataError(f"the label must have three axes (Z, Y, X), got the shape {_shown(shape)}", where)
    if (np.array(shape) < size).any():
        raise DataError(
            f"the volume, {_shown(shape)} voxels along Z, Y, X, is smaller than patch_size {_shown(size)}; take a "
            "smaller patch",
            where,
        )


def _shown(values: Sequence[int] | np.ndarray) -> str:
    return str(tuple(int(value) for value in values))
