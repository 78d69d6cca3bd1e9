"""Size of the network's input, held against the samples that have to fill it."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from monai_ext.data.crop_grid import input_size, triple
from monai_ext.errors import ConfigError
from monai_ext.nuclei.indexing import NucleiIndex

logger = logging.getLogger("monai_ext")


def network_input(
    crop_size: int | Sequence[int],
    margin: int | Sequence[int],
    target_size: int | Sequence[int] | None = None,
    index: NucleiIndex | None = None,
) -> list[int]:
    """Voxels along Z, Y, X of a network's input, see `input_size`, for crops that the samples can fill.

    Args:
        crop_size: voxels of a crop, one number for all axes or (Z, Y, X).
        margin: voxels to cut off each side, one number for all axes or (Z, Y, X), from 0.
        target_size: voxels after resampling, one number for all axes or (Z, Y, X); None for no resampling.
        index: the samples that have to fill the crops; default: those of an inference, which may be smaller.

    Raises:
        ConfigError: for a size or margin that isn't one or three integers in range, or crops of which no sample fills
            half along some axis.
    """
    if index is not None:
        _check_samples(index, triple("crop_size", crop_size))
    return input_size(crop_size, margin, target_size)


def _check_samples(index: NucleiIndex, size: Sequence[int]) -> None:
    most = [max(lengths) for lengths in zip(*(sample.image.shape for sample in index.samples), strict=True)]
    if any(2 * length < edge for length, edge in zip(most, size, strict=True)):
        raise ConfigError(
            f"--crop_size {list(size)}: no sample has more than {most} voxels along Z, Y and X, so that zeros would "
            "fill most of every crop; take a smaller crop_size"
        )
    if any(length < edge for length, edge in zip(most, size, strict=True)):
        logger.warning("no sample fills a crop of %s voxels: the most are %s, zeros fill the rest", list(size), most)
