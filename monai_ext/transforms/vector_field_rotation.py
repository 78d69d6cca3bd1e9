"""Random rotations by any angle of images, labels and vector fields together."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import Rotate
from monai.transforms.utils import create_rotate
from monai.utils import ensure_tuple, ensure_tuple_rep

from monai_ext.errors import ConfigError
from monai_ext.transforms.vector_field import check_vector_field
from monai_ext.transforms.vector_field_random import RandVectorFieldd

MODES = ("auto", "bilinear", "nearest")


class RandRotateVectorFieldd(RandVectorFieldd):
    """Rotate images, labels and vector fields about their centre by random angles, resampled by MONAI's ``Rotate``.

    Vectors are those of the nearest voxel, rotated, and normalised to length 1: background, the zero vector, stays
    exactly zero and does not bleed into its neighbours. Images are interpolated linearly, labels take the nearest
    value. Shapes and types stay; voxels from outside the volume are 0, or
    ``outside`` in ``outside_keys``. `inverse` rotates back, which
    restores the inner voxels up to resampling.

    Args:
        keys: images, labels and fields (C, Z, Y, X) of one spatial shape; all move in space.
        vector_keys: those of ``keys`` that are vector fields (3, Z, Y, X), components (x, y, z): they are rotated, too.
        prob: probability of a rotation.
        range: angles in radians about each axis: drawn from (-range, range), or from (low, high), or from
            (-range, range) with one number per axis (z, y, x).
        mode: "bilinear" or "nearest", for all keys or one per key (unused for vectors); "auto" takes "bilinear" for
            floats and "nearest" for all other types, so that labels stored as floats need "nearest".
        allow_missing_keys: keys that an item lacks are left out.
        outside: value of the voxels from outside, such as the ``ignore_label`` of the losses; None for 0.
        outside_keys: label maps that get it.

    Raises:
        ConfigError: for another ``range`` or ``mode``, or one of ``vector_keys`` that isn't among ``keys``.
        DataError: when called with items that are no volumes, or of different spatial shapes.
    """

    def __init__(
        self,
        keys: KeysCollection,
        vector_keys: KeysCollection,
        prob: float = 0.1,
        range: float | Sequence[float] = 0.2,
        mode: str | Sequence[str] = "auto",
        allow_missing_keys: bool = False,
        outside: float | None = None,
        outside_keys: KeysCollection = (),
    ) -> None:
        super().__init__(keys, vector_keys, prob, allow_missing_keys)
        self.outside = dict.fromkeys(ensure_tuple(outside_keys), outside or 0)
        self.intervals = _intervals(range)
        self.modes = dict(zip(self.keys, ensure_tuple_rep(mode, len(self.keys)), strict=True))
        unknown = [name for name in self.modes.values() if name not in MODES]
        if unknown:
            raise ConfigError(f"RandRotateVectorFieldd: mode must be one of {list(MODES)}, got {unknown[0]!r}")

    def draw(self, shape: Sequence[int]) -> dict[str, Any]:
        return {"angles": [float(self.R.uniform(*interval)) for interval in self.intervals], "order": "XYZ"}

    def apply(self, key: Hashable, image: torch.Tensor, drawn: Mapping[str, Any]) -> torch.Tensor:
        angles, order = [float(angle) for angle in drawn["angles"]], drawn["order"]
        if key not in self.vector_keys:
            outside = self.outside.get(key, 0)
            mode = self._mode(key, image)
            if not outside:
                return _resample(image, angles, order, mode)
            return _resample(image - outside, angles, order, mode) + outside
        check_vector_field(image)
        return _turn(_resample(image, angles, order, "nearest"), angles, order)

    def opposite(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        return {"angles": [-angle for angle in reversed(drawn["angles"])], "order": drawn["order"][::-1]}

    def _mode(self, key: Hashable, image: torch.Tensor) -> str:
        mode = self.modes[key]
        if mode != "auto":
            return mode
        return "bilinear" if image.is_floating_point() else "nearest"


def _resample(image: torch.Tensor, angles: Sequence[float], order: str, mode: str) -> torch.Tensor:
    # One type of the sampling grid for all keys, or labels and vectors would not agree about the nearest voxel.
    rotate = Rotate(angles, mode=mode, padding_mode="zeros", dtype=torch.float32, rotate_order=order)
    with rotate.trace_transform(False):
        return rotate(image).to(image.dtype)


def _turn(field: torch.Tensor, angles: Sequence[float], order: str) -> torch.Tensor:
    """Vectors (3, Z, Y, X) rotated as MONAI's ``Rotate`` rotates space, with length 1; zero vectors stay zero."""
    # MONAI's matrix maps a position (z, y, x) of the result to its source; vectors (x, y, z) go the other way.
    places = create_rotate(3, angles, rotate_order=order)[:3, :3]
    vectors = torch.as_tensor(places.T[::-1, ::-1].copy(), dtype=field.dtype, device=field.device)
    return torch.nn.functional.normalize(torch.tensordot(vectors, field, dims=1), dim=0)


def _intervals(span: float | Sequence[float]) -> list[tuple[float, float]]:
    numbers = [float(number) for number in ([span] * 3 if isinstance(span, int | float) else span)]
    if len(numbers) == 2:
        intervals = [(numbers[0], numbers[1])] * 3
    else:
        intervals = [(-abs(number), abs(number)) for number in numbers]
    if len(intervals) != 3 or not all(math.isfinite(number) for number in numbers):
        raise ConfigError(
            "RandRotateVectorFieldd: range must be a number of radians, (low, high), or one number per axis (z, y, x), "
            f"got {span!r}"
        )
    return intervals
