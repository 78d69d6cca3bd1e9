"""Random augmentation of slices, the same for all slices of an item."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import (
    Compose,
    MapTransform,
    RandAffine,
    RandFlip,
    RandomizableTransform,
    RandScaleIntensity,
    RandShiftIntensity,
)


class RandAugmentSlicesd(RandomizableTransform, MapTransform):
    """Rotate, translate, scale and flip slices in their plane and change their contrast, all of an item alike.

    MONAI's ``RandAffine``, ``RandFlip``, ``RandScaleIntensity`` and ``RandShiftIntensity`` on the last two axes,
    whatever the axes before them: the channels of a slice (C, Y, X), the slices of a volume (slice, C, Y, X), or a
    whole volume (1, Z, Y, X). Values stay within 0 to 1; pixels from outside are 0 (air).

    Args:
        keys: keys of the images; all get the same changes.
        rotate: largest angle in degrees, either way.
        translate: largest translation in pixels, either way, along Y and X.
        scale: largest change of size, as a fraction.
        flip_prob: probability of a flip along X (left and right).
        contrast: largest change of contrast, as a fraction.
        brightness: largest intensity added or subtracted, of the range 0 to 1.
        prob: probability of each change: the geometric one, that of contrast, and that of brightness.
        allow_missing_keys: whether items may lack a key.
    """

    def __init__(
        self,
        keys: KeysCollection,
        rotate: float = 10.0,
        translate: float = 8.0,
        scale: float = 0.05,
        flip_prob: float = 0.5,
        contrast: float = 0.1,
        brightness: float = 0.05,
        prob: float = 0.8,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, 1.0)
        affine = RandAffine(
            prob,
            rotate_range=math.radians(rotate),
            translate_range=(translate, translate),
            scale_range=(scale, scale),
            padding_mode="zeros",
        )
        jitter = [RandScaleIntensity(contrast, prob), RandShiftIntensity(brightness, prob=prob)]
        self.augment = Compose([RandFlip(flip_prob, spatial_axis=1), affine, *jitter])

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> RandAugmentSlicesd:
        super().set_random_state(seed, state)
        self.augment.set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            image = torch.as_tensor(result[key])
            planes = image.as_tensor() if isinstance(image, MetaTensor) else image
            changed = torch.as_tensor(self.augment(planes.reshape(-1, *image.shape[-2:])))
            changed = changed.as_tensor() if isinstance(changed, MetaTensor) else changed
            result[key] = changed.clamp(0, 1).reshape(image.shape)
        return result
