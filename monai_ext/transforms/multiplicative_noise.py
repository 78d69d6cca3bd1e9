"""Noise that grows with the signal."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform

from monai_ext.errors import ConfigError


class RandMultiplicativeNoised(RandomizableTransform, MapTransform):
    """Multiply each pixel by a factor of its own, normally distributed about 1; 0 (air) stays 0.

    MONAI has additive noise only (``RandGaussianNoised``). All keys get the same factors, so they must have one shape.

    Args:
        keys: images of any shape.
        prob: probability that an item gets any noise.
        std: largest standard deviation of the factors; each item's is drawn between 0 and this.
        allow_missing_keys: keys that an item lacks are left out.

    Raises:
        ConfigError: for a negative ``std``.
    """

    def __init__(
        self, keys: KeysCollection, prob: float = 0.1, std: float = 0.1, allow_missing_keys: bool = False
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        if std < 0:
            raise ConfigError(f"RandMultiplicativeNoised: std must be 0 or more, got {std!r}")
        self.std = std

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return result
        factors: np.ndarray | None = None
        std = self.R.uniform(0, self.std)
        for key in self.key_iterator(result):
            image = torch.as_tensor(result[key])
            if factors is None:
                factors = self.R.normal(1.0, std, tuple(image.shape)).astype(np.float32)
            result[key] = image * torch.from_numpy(factors).to(image)
        return result
