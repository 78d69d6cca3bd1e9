"""Gamma on a fixed range of intensities."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform

from monai_ext.errors import ConfigError


class RandGammad(RandomizableTransform, MapTransform):
    """Raise intensities to a random power; 0 and 1 stay, values outside are clipped first.

    MONAI's ``RandAdjustContrastd`` does so between an image's own minimum and maximum: a dim image keeps its brightest
    value, and a single bright voxel decides how all others change. Here the range is that of the normalisation, the
    same for all images. All keys get the same power.

    Args:
        keys: images of any shape, normalised to 0…1.
        prob: probability that an item is changed.
        gamma: least and greatest power.
        allow_missing_keys: keys that an item lacks are left out.

    Raises:
        ConfigError: unless 0 < least <= greatest power.
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.1,
        gamma: tuple[float, float] = (0.8, 1.2),
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        if not 0 < gamma[0] <= gamma[1]:
            raise ConfigError(f"RandGammad: gamma must be two ascending numbers above 0, got {gamma!r}")
        self.gamma = gamma

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        self.randomize(None)
        if self._do_transform:
            power = self.R.uniform(*self.gamma)
            for key in self.key_iterator(result):
                result[key] = torch.as_tensor(result[key]).clamp(0, 1) ** power
        return result
