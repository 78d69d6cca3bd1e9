"""Foreground and shape of a volume before it is resized."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, SpatialPad, Transform

from monai_ext.errors import DataError


def is_nonzero(img: torch.Tensor) -> torch.Tensor:
    """Foreground for MONAI's ``CropForegroundd``, whose default (> 0) would lose the lower half after a z-score.

    Args:
        img: image (C, X, Y, Z), 0 outside the foreground.

    Returns:
        bool, of the same shape: True where the image isn't 0.

    Raises:
        DataError: when there is no foreground: cropping would leave a volume without voxels.
    """
    foreground = img != 0
    if not foreground.any():
        raise DataError("has no foreground: all voxels are zero, or all non-zero ones have the same value")
    return foreground


class CubePad(Transform):
    """Pad an image (C, X, Y, Z) with zeros on both sides to its longest edge, so that resizing keeps proportions.

    Args:
        enabled: False returns the image as it is, so that a setting can switch it off.
    """

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled

    def __call__(self, img: torch.Tensor) -> torch.Tensor:
        return SpatialPad([max(img.shape[1:])] * (img.ndim - 1))(img) if self.enabled else img


class CubePadd(MapTransform):
    """Dictionary version of `CubePad`.

    Args:
        keys: keys of the images (C, X, Y, Z).
        enabled: see `CubePad`.
        allow_missing_keys: whether items may lack a key.
    """

    def __init__(self, keys: KeysCollection, enabled: bool = True, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.pad = CubePad(enabled)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.pad(result[key])
        return result
