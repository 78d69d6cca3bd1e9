"""Integers of a file's own type as intensities from 0 to 1."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import convert_to_tensor

from monai_ext.errors import DataError


class IntegersToUnitd(MapTransform):
    """Divide unsigned integers by the largest value of their type; images of floats stay, as they are 0 to 1 already.

    `LoadCropd` does that with what it reads; this is for images that other programs feed from memory.

    Args:
        keys: keys of the images.
        allow_missing_keys: whether items may lack a key.

    Raises:
        DataError: for signed integers, whose range isn't known.
    """

    def __init__(self, keys: KeysCollection = "image", allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            image = result[key]
            kind = str(image.dtype).removeprefix("torch.")
            if kind.startswith(("int", "bool")):
                raise DataError(
                    f"{key} has voxels of type {kind}, whose range isn't known; give floats from 0 to 1, or unsigned "
                    "integers"
                )
            if kind.startswith("uint"):
                result[key] = convert_to_tensor(image, dtype=torch.float32, track_meta=True) / np.iinfo(kind).max
        return result
