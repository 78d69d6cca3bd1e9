"""Synthetic lesions in the spinal cord, as augmentation."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import convert_to_dst_type, convert_to_numpy
from scipy.ndimage import binary_dilation

from monai_ext.errors import ConfigError, DataError

# Intensity above the cord, in standard deviations of the cord: lesions are bright in T2-weighted images.
_CONTRAST = (2.0, 4.0)
_WIDTH = (0.35, 1.0)
_TRIES = 50


class RandSyntheticLesiond(RandomizableTransform, MapTransform):
    """Put a few bright blobs into the cord, and into the label.

    A blob is an ellipse (an ellipsoid in a volume) of random direction and width that lies wholly within the mask,
    apart from the others and from the lesions that are there. It is brighter than the cord by 2 to 4 standard
    deviations of the cord, less so towards its edge. Where there is no room for a blob it is left out; without any the
    image stays as it is. Nothing changes outside the blobs.

    Args:
        keys: images (C, Y, X) or (C, Z, Y, X); all get the same blobs.
        mask_key: mask of the cord (1, ...), inside where > 0.
        label_key: mask of the lesions (1, ...), which gets the value 1 in the blobs; made from zeros if absent, also
            without any blob.
        num_lesions: fewest and most blobs.
        size: least and largest diameter of a blob along its longest axis, in pixels.
        prob: probability that an item gets any.
        allow_missing_keys: keys that an item lacks are left out; without a cord it stays as it is.

    Raises:
        ConfigError: for a ``num_lesions`` or ``size`` that isn't two ascending integers.
        DataError: when called with images and masks of different spatial shapes.
    """

    def __init__(
        self,
        keys: KeysCollection,
        mask_key: str,
        label_key: str,
        num_lesions: Sequence[int] = (1, 3),
        size: Sequence[int] = (5, 25),
        prob: float = 0.5,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        for name, bounds, least in (("num_lesions", num_lesions, 1), ("size", size, 3)):
            if len(bounds) != 2 or not least <= bounds[0] <= bounds[1]:
                raise ConfigError(
                    f"RandSyntheticLesiond: {name} must be two ascending integers from {least}, got {list(bounds)}"
                )
        self.mask_key = mask_key
        self.label_key = label_key
        self.num_lesions = tuple(num_lesions)
        self.size = tuple(size)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        self.randomize(None)
        if self.allow_missing_keys and self.mask_key not in result:
            return result
        if self.label_key not in result:
            result[self.label_key] = result[self.mask_key] * 0
        if not self._do_transform:
            return result
        cord = self._mask(result, self.mask_key)
        lesions = self._mask(result, self.label_key)
        brightness = self._blobs(cord & ~_grown(lesions))
        if not brightness.any():
            return result
        for key in self.key_iterator(result):
            image = convert_to_numpy(result[key]).astype(np.float32)
            self._compare(key, image.shape, cord.shape)
            spread = _spread(image, cord & ~lesions).reshape(-1, *(1,) * cord.ndim)
            result[key] = convert_to_dst_type(image + spread * brightness, result[key])[0]
        old = result[self.label_key]
        result[self.label_key] = convert_to_dst_type(np.where(brightness > 0, 1, convert_to_numpy(old)), old)[0]
        return result

    def _blobs(self, room: np.ndarray) -> np.ndarray:
        """Intensity of the blobs in standard deviations, 0 elsewhere."""
        brightness = np.zeros(room.shape, np.float32)
        for _ in range(self.R.randint(self.num_lesions[0], self.num_lesions[1] + 1)):
            diameter = self.R.randint(self.size[0], self.size[1] + 1)
            contrast = self.R.uniform(*_CONTRAST)
            places = np.argwhere(room)
            for _ in range(_TRIES if len(places) else 0):
                centre = places[self.R.randint(len(places))]
                blob = self._blob(diameter, room.ndim)
                box = tuple(slice(c - n // 2, c + n // 2 + 1) for c, n in zip(centre, blob.shape, strict=True))
                # A slice beyond the image is shorter than the blob, or empty.
                if min(centre - np.array(blob.shape) // 2) < 0 or room[box].shape != blob.shape:
                    continue
                if room[box][blob > 0].all():
                    brightness[box] += contrast * blob
                    room &= ~_grown(brightness > 0)
                    break
        return brightness

    def _blob(self, diameter: int, ndim: int) -> np.ndarray:
        """An ellipse in the middle of an array of odd lengths: from 1 inside to 0.2 at its edge, 0 outside."""
        axes, _ = np.linalg.qr(self.R.standard_normal((ndim, ndim)))
        radii = (diameter - 1) / 2 * np.array([1.0, *self.R.uniform(*_WIDTH, ndim - 1)])
        radii = np.maximum(radii, 1.0)
        half = diameter // 2
        grid = np.stack(np.meshgrid(*[np.arange(-half, half + 1)] * ndim, indexing="ij"))
        squared = ((np.tensordot(axes, grid, 1).T / radii).T ** 2).sum(axis=0)
        return np.where(squared <= 1, np.minimum(1.0, 1.2 - squared), 0.0).astype(np.float32)

    def _mask(self, data: Mapping[Hashable, Any], key: str) -> np.ndarray:
        mask = convert_to_numpy(data[key])
        if mask.ndim not in (3, 4) or mask.shape[0] != 1:
            raise DataError(f"RandSyntheticLesiond: {key!r} must be a mask (1, Y, X) or (1, Z, Y, X), got {mask.shape}")
        self._compare(key, mask.shape, data[self.mask_key].shape[1:])
        return mask[0] > 0

    def _compare(self, key: Hashable, shape: Sequence[int], expected: Sequence[int]) -> None:
        if tuple(shape[1:]) != tuple(expected):
            raise DataError(
                f"RandSyntheticLesiond: {key!r} is {tuple(shape)}, but {self.mask_key!r} has the spatial shape "
                f"{tuple(expected)}; resize them together"
            )


def _grown(mask: np.ndarray) -> np.ndarray:
    """The mask and its neighbours, also across corners: what lies outside doesn't touch it."""
    return binary_dilation(mask, np.ones((3,) * mask.ndim, bool))


def _spread(image: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Standard deviation of each channel in the cord; of a smooth cord, 5 % of what the channel spans."""
    flat = image.reshape(image.shape[0], -1)
    return np.maximum(image[:, inside].std(axis=1), 0.05 * np.ptp(flat, axis=1))
