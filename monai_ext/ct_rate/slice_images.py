"""The slices that represent a volume, as input of a network: one function for extraction, training and inference."""

from __future__ import annotations

import importlib.util
import logging
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import interpolate, pad

from monai_ext.ct_rate.chest_ct import ChestCT
from monai_ext.ct_rate.chest_range import chest_range
from monai_ext.ct_rate.positions import slice_positions
from monai_ext.errors import ConfigError

logger = logging.getLogger(__name__)


class SliceImages(NamedTuple):
    """Slices as input of a network.

    Args:
        positions: indices along Z, ascending.
        images: float32 (slice, Y, X) from 0 to 1.
        doubt: why the volume may show no chest; empty where it does, see `chest_range`.
    """

    positions: list[int]
    images: np.ndarray
    doubt: str


def slice_images(ct: ChestCT, num_slices: int = 12, size: int = 224, clahe: bool = False) -> SliceImages:
    """Choose slices within the chest and resize them to a common size; a doubtful chest is logged with its file.

    Args:
        ct: the volume.
        num_slices: see `slice_positions`.
        size: edge length in pixels; a slice that isn't square is padded with air first to keep its proportions.
        clahe: raise local contrast (contrast-limited adaptive histogram equalisation) afterwards.

    Raises:
        ConfigError: for a size or number of slices below 1.
    """
    if size < 1:
        raise ConfigError(f"slice_images: size must be at least 1, got {size}")
    first, last, doubt = chest_range(ct)
    if doubt:
        logger.warning("%s: %s", ct.path, doubt)
    positions = slice_positions(first, last, num_slices)
    images = np.stack([_resized(ct.windowed(z), size) for z in positions])
    return SliceImages(positions, np.stack([_equalised(image) for image in images]) if clahe else images, doubt)


def _resized(image: np.ndarray, size: int) -> np.ndarray:
    height, width = image.shape
    edge = max(height, width)
    top, left = (edge - height) // 2, (edge - width) // 2
    square = pad(torch.from_numpy(image), (left, edge - width - left, top, edge - height - top))
    # Without antialiasing a nodule of three pixels may fall between the samples.
    small = interpolate(square[None, None], (size, size), mode="bilinear", antialias=True)
    return small[0, 0].clamp(0, 1).numpy()


def check_clahe(clahe: bool) -> None:
    """Check the requirement of ``clahe`` before any volume is read.

    Args:
        clahe: whether local contrast is to be raised.

    Raises:
        ConfigError: for ``clahe`` without scikit-image.
    """
    if clahe and importlib.util.find_spec("skimage") is None:
        raise ConfigError("clahe needs scikit-image; install it by `pip install 'monai-ext[clahe]'`")


def _equalised(image: np.ndarray) -> np.ndarray:
    from skimage.exposure import equalize_adapthist

    return equalize_adapthist(image).astype(np.float32)
