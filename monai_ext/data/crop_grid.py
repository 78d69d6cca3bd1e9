"""Positions of the crops of a volume, and their size inside the margin."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from monai_ext.errors import ConfigError, DataError

Position = tuple[int, int, int]


def triple(name: str, value: int | Sequence[int], least: int = 1) -> Position:
    """One number for all axes, or three, as (Z, Y, X).

    Raises:
        ConfigError: with ``name``, for anything but integers of at least ``least``.
    """
    values = (value,) * 3 if isinstance(value, int) else tuple(value) if isinstance(value, list | tuple) else ()
    if len(values) != 3 or any(isinstance(v, bool) or not isinstance(v, int) or v < least for v in values):
        raise ConfigError(f"{name} must be one or three integers of at least {least} (Z, Y, X), got {value!r}")
    return values


def crop_grid(shape: Sequence[int], crop_size: int | Sequence[int]) -> list[Position]:
    """First voxels (z, y, x) of the crops of a volume that don't overlap, X fastest.

    They begin at 0 and follow each other in steps of their size; along an axis of length D there are
    max(1, D // size) of them. So a remainder that fills no crop is left out, and an axis shorter than a crop gives one
    that reaches beyond it (and is padded with zeros at the end).

    Args:
        shape: voxels along Z, Y, X.
        crop_size: voxels, one number for all axes or (Z, Y, X).

    Raises:
        ConfigError: for a ``crop_size`` that isn't one or three positive integers.
    """
    size = triple("crop_size", crop_size)
    counts = [max(1, length // step) for length, step in zip(shape, size, strict=True)]
    return [(z * size[0], y * size[1], x * size[2]) for z, y, x in product(*(range(count) for count in counts))]


def margins(crop_size: int | Sequence[int], margin: int | Sequence[int]) -> Position:
    """Voxels cut off each side of a crop along Z, Y, X: ``margin``, but at most a quarter of the axis."""
    size, wanted = triple("crop_size", crop_size), triple("margin", margin, least=0)
    return min(wanted[0], size[0] // 4), min(wanted[1], size[1] // 4), min(wanted[2], size[2] // 4)


def first_voxels(
    crop: Sequence[int], shape: Sequence[int], crop_size: int | Sequence[int], margin: int | Sequence[int]
) -> list[int]:
    """First voxels of a crop behind its margin, which takes at most a quarter of what the volume has of the crop.

    A margin as wide as a thin volume would leave nothing but padding.

    Args:
        crop: first voxel (z, y, x), see `crop_grid`.
        shape: voxels of the volume along Z, Y, X.
        crop_size: voxels of a crop, one number for all axes or (Z, Y, X).
        margin: voxels to cut off each side, one number for all axes or (Z, Y, X), from 0.

    Raises:
        ConfigError: for a size or margin that isn't one or three integers in range.
        DataError: for a crop that begins beyond the volume: all of it would be padding.
    """
    size, cut = triple("crop_size", crop_size), margins(crop_size, margin)
    extents = [min(length, end - first) for first, end, length in zip(crop, shape, size, strict=True)]
    if min(extents) < 1:
        raise DataError(f"the crop at {tuple(crop)} is nothing but padding: the volume has {tuple(shape)} voxels")
    return [first + min(edge, extent // 4) for first, edge, extent in zip(crop, cut, extents, strict=True)]


def trimmed_size(crop_size: int | Sequence[int], margin: int | Sequence[int]) -> list[int]:
    """Voxels along Z, Y, X that `margins` leave of a crop: 80 with a margin of 10 is 60.

    Args:
        crop_size: voxels of a crop, one number for all axes or (Z, Y, X).
        margin: voxels to cut off each side, one number for all axes or (Z, Y, X), from 0.

    Raises:
        ConfigError: for a size or margin that isn't one or three integers in range.
    """
    size, cut = triple("crop_size", crop_size), margins(crop_size, margin)
    return [length - 2 * edge for length, edge in zip(size, cut, strict=True)]


def input_size(
    crop_size: int | Sequence[int], margin: int | Sequence[int], target_size: int | Sequence[int] | None = None
) -> list[int]:
    """Voxels along Z, Y, X of a network's input: ``target_size``, to which crops are resampled, else `trimmed_size`.

    Args:
        crop_size: voxels of a crop, one number for all axes or (Z, Y, X).
        margin: voxels to cut off each side, one number for all axes or (Z, Y, X), from 0.
        target_size: voxels after resampling, one number for all axes or (Z, Y, X); None for no resampling.

    Raises:
        ConfigError: for a size or margin that isn't one or three integers in range.
    """
    return trimmed_size(crop_size, margin) if target_size is None else list(triple("target_size", target_size))
