"""Crops of TIFF stacks: reading them, clearing the background, and scaling to the range a network expects."""

from __future__ import annotations

import functools
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import ImageReader, MetaTensor
from monai.transforms import MapTransform
from monai.utils import MetaKeys

from monai_ext.data.crop_grid import first_voxels, trimmed_size, triple
from monai_ext.data.masks import mask_fault, mask_values
from monai_ext.data.problems import warn_once
from monai_ext.data.slice_cache import SliceCache
from monai_ext.data.stack_reader import StackReader
from monai_ext.data.tiff_stack import TiffStack
from monai_ext.errors import ConfigError, DataError
from monai_ext.transforms.load import LoadStrictd

SCALINGS = ("unit", "symmetric")


class LoadCropd(LoadStrictd):
    """MONAI's ``LoadImaged`` for crops: read that at ``crop_z``, ``crop_y``, ``crop_x`` of a `TiffStack`, without its
    margin, scaled to [0, 1].

    The stack under each key becomes a float32 tensor (1, Z, Y, X): unsigned integers divided by the largest value of
    their type (uint8 by 255, uint16 by 65535), or by ``percentiles`` or ``value_range``, clipped to [0, 1].
    Voxels beyond the stack are 0. The stack under ``mask_key``, where an item has one, becomes the mask of the same
    box: 1 where it isn't zero, else 0.

    A path that isn't a `TiffStack`, as other programs give it, is read whole (see `StackReader`), and its centre is the
    crop.

    Args:
        keys: keys of the stacks to read.
        mask_key: key of a stack that is the mask, such as a segmentation; items may lack it.
        crop_size: voxels before trimming, one number for all axes or (Z, Y, X).
        margin: voxels trimmed from each side, at most a quarter of what the stack has of the crop along that axis.
        percentiles: (low, high) in percent of the whole stack, which become 0 and 1; estimated on at most 16
            evenly spaced slices, the same for all crops of a stack.
        value_range: (low, high) in the file's intensities, which become 0 and 1; needed for signed integers and floats
            without ``percentiles``.
        cache_samples: number of compressed stacks whose decoded slices are kept in memory, per process.
        cache_bytes: bytes of all these slices together.
        allow_missing_keys: whether items may lack a key.

    Raises:
        ConfigError: for settings that contradict each other.
        DataError: naming the file that is damaged or has voxels that are NaN or infinite, or the stack that no
            setting gives a range for, or of which a crop would be nothing but padding.
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        mask_key: str = "mask",
        crop_size: int | Sequence[int] = 80,
        margin: int | Sequence[int] = 10,
        percentiles: Sequence[float] | None = None,
        value_range: Sequence[float] | None = None,
        cache_samples: int = 10,
        cache_bytes: int = 1 << 30,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, StackReader(), allow_missing_keys=allow_missing_keys)
        if percentiles is not None and value_range is not None:
            raise ConfigError("LoadCropd: give percentiles or value_range, not both")
        self.mask_key = mask_key
        self.crop_size, self.margin = triple("crop_size", crop_size), triple("margin", margin, least=0)
        self.size = trimmed_size(crop_size, margin)
        self.percentiles = _ascending("percentiles", percentiles)
        self.value_range = _ascending("value_range", value_range)
        if self.percentiles is not None and not 0 <= self.percentiles[0] < self.percentiles[1] <= 100:
            raise ConfigError(f"LoadCropd: percentiles must lie between 0 and 100, got {list(self.percentiles)}")
        self.cache = SliceCache(cache_samples, cache_bytes)

    def __call__(self, data: Mapping[Hashable, Any], reader: ImageReader | None = None) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            if isinstance(result[key], MetaTensor):
                continue
            if not isinstance(result[key], TiffStack):
                result[key] = self._centre(result[key])
                continue
            crop_at = [int(result[f"crop_{axis}"]) for axis in "zyx"]
            stack: TiffStack = result[key]
            start = self._start(crop_at, stack)
            crop = stack.read(start, self.size, self.cache)
            if crop.dtype.kind == "f" and not np.isfinite(crop).all():
                raise DataError("has voxels that are NaN or infinite", stack.path(start[0] + _first_bad(crop)))
            low, high = self._range(np.dtype(stack.dtype), stack)
            # slices of zeros beyond the stack stay 0 whatever the range is
            inside = tuple(slice(0, max(0, end - first)) for end, first in zip(stack.shape, start, strict=True))
            image = np.zeros(crop.shape, np.float32)
            image[inside] = np.clip((crop[inside].astype(np.float32) - low) / (high - low), 0, 1)
            result[key] = _channel_first(image[None])
        if self.mask_key in result:
            stack = result[self.mask_key]
            crop_at = [int(result[f"crop_{axis}"]) for axis in "zyx"]
            mask = stack.read(self._start(crop_at, stack), self.size, self.cache)
            if fault := mask_fault(mask_values(mask)):
                warn_once(stack.folder, fault)
            result[self.mask_key] = torch.from_numpy((mask != 0).astype(np.float32)[None])
        return result

    def _start(self, crop_at: Sequence[int], stack: TiffStack) -> list[int]:
        try:
            return first_voxels(crop_at, stack.shape, self.crop_size, self.margin)
        except DataError as error:
            raise DataError(str(error), stack.folder) from None

    def _centre(self, path: Any) -> MetaTensor:
        """The crop in the middle of a whole image, zeros beyond its end."""
        voxels, meta = StackReader().read(path)
        low, high = self._range(voxels.dtype, path, voxels)
        if not np.isfinite(voxels).all():
            raise DataError("has voxels that are NaN or infinite", path)
        image = np.zeros((1, *self.size), np.float32)
        start = [max(0, (length - size) // 2) for length, size in zip(voxels.shape[1:], self.size, strict=True)]
        inside = voxels[:, *(slice(first, first + size) for first, size in zip(start, self.size, strict=True))]
        box = tuple(slice(length) for length in inside.shape)
        image[box] = np.clip((inside.astype(np.float32) - low) / (high - low), 0, 1)
        return _channel_first(image, {**meta, "filename_or_obj": str(path)})

    def _range(self, dtype: np.dtype, stack: Any, whole: np.ndarray | None = None) -> tuple[float, float]:
        if self.value_range is not None:
            return self.value_range
        if self.percentiles is not None:
            if whole is None:
                return stack_percentiles(stack, *self.percentiles)
            low, high = np.percentile(whole, self.percentiles)
            return _distinct(float(low), float(high), self.percentiles, stack)
        if dtype.kind not in "bu":
            raise DataError(
                f"has voxels of type {dtype.newbyteorder('=')}, whose range isn't known; give the intensities that "
                "become 0 and 1 as value_range [low, high], or percentiles [low, high]",
                str(stack),
            )
        return 0.0, float(np.iinfo(dtype).max) if dtype.kind == "u" else 1.0


class ClearBackgroundd(MapTransform):
    """Set the image to 0 where the mask is 0, and drop the mask; an item without a mask stays as it is.

    It comes after the augmentation, which moves image and mask alike and may add noise to the background.

    Args:
        keys: keys of the images (C, Z, Y, X).
        mask_key: key of the mask (1, Z, Y, X), inside where > 0.5.
        allow_missing_keys: whether items may lack a key.
    """

    def __init__(
        self, keys: KeysCollection = "image", mask_key: str = "mask", allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.mask_key = mask_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        mask = result.pop(self.mask_key, None)
        if mask is not None:
            for key in self.key_iterator(result):
                result[key] = result[key] * (mask > 0.5)
        return result


class ScaleUnitd(MapTransform):
    """Clip images to [0, 1] and, for ``scaling="symmetric"``, stretch them to [-1, 1]; "unit" leaves them there.

    Args:
        keys: keys of the images.
        scaling: "symmetric" or "unit".
        allow_missing_keys: whether items may lack a key.

    Raises:
        ConfigError: for another scaling.
    """

    def __init__(
        self, keys: KeysCollection = "image", scaling: str = "symmetric", allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if scaling not in SCALINGS:
            raise ConfigError(f"ScaleUnitd: scaling must be one of {list(SCALINGS)}, got {scaling!r}")
        self.scaling = scaling

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            clipped = result[key].clamp(0, 1)
            result[key] = clipped * 2 - 1 if self.scaling == "symmetric" else clipped
        return result


# Two numbers per nucleus: too small to bound.
@functools.cache
def stack_percentiles(stack: TiffStack, low: float, high: float) -> tuple[float, float]:
    """Values at two percentiles of a stack, from at most 16 evenly spaced slices.

    Raises:
        DataError: when both are the same, or a slice has voxels that are NaN or infinite.
    """
    depth = stack.shape[0]
    indices = np.unique(np.linspace(0, depth - 1, min(16, depth)).round().astype(int))
    slices = [stack.read_slice(int(index)) for index in indices]
    for index, image in zip(indices, slices, strict=True):
        if image.dtype.kind == "f" and not np.isfinite(image).all():
            raise DataError("has voxels that are NaN or infinite", stack.path(int(index)))
    black, white = (float(value) for value in np.percentile(np.stack(slices), (low, high)))
    return _distinct(black, white, (low, high), stack)


def _distinct(black: float, white: float, percentiles: Sequence[float], place: Any) -> tuple[float, float]:
    if black >= white:
        low, high = percentiles
        raise DataError(
            f"has the value {black:g} at both percentiles {low:g} and {high:g}; choose others, or value_range",
            str(place),
        )
    return black, white


def _channel_first(image: np.ndarray, meta: Mapping[str, Any] | None = None) -> MetaTensor:
    return MetaTensor(torch.from_numpy(image), meta={MetaKeys.ORIGINAL_CHANNEL_DIM: 0, **(meta or {})})


def _ascending(name: str, pair: Sequence[float] | None) -> tuple[float, float] | None:
    if pair is None:
        return None
    if not isinstance(pair, list | tuple) or len(pair) != 2 or not pair[0] < pair[1]:
        raise ConfigError(f"LoadCropd: {name} must be two ascending numbers [low, high], got {pair!r}")
    return float(pair[0]), float(pair[1])


def _first_bad(crop: np.ndarray) -> int:
    return int(np.argmin(np.isfinite(crop).all(axis=(1, 2))))
