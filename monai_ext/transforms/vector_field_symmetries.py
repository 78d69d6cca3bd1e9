"""Random flips and rotations by 90° of images, labels and vector fields together."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection

from monai_ext.errors import ConfigError
from monai_ext.transforms.vector_field import AXES, PLANES, FlipVectorField, Rotate90VectorField, known_axis
from monai_ext.transforms.vector_field_random import RandVectorFieldd


class _RandAxisVectorFieldd(RandVectorFieldd):
    """A random transform about or along one of several axes."""

    def __init__(
        self,
        keys: KeysCollection,
        vector_keys: KeysCollection,
        prob: float = 0.1,
        axes: Sequence[str] = AXES,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, vector_keys, prob, allow_missing_keys)
        if not axes:
            raise ConfigError(f"axes must name at least one of {list(AXES)}")
        self.axes = tuple(known_axis(axis) for axis in axes)

    def draw_axis(self) -> str:
        return self.axes[self.R.randint(len(self.axes))]


class RandFlipVectorFieldd(_RandAxisVectorFieldd):
    """Flip images, labels and vector fields along one axis, drawn from ``axes``; see `FlipVectorField`.

    For independent flips along each axis, use one of these transforms per axis.

    Args:
        keys: images, labels and fields (C, Z, Y, X) of one spatial shape; all move in space.
        vector_keys: those of ``keys`` that are vector fields (3, Z, Y, X), components (x, y, z), transformed as well.
        prob: probability of a flip.
        axes: axes to draw from, each as likely as another.
        allow_missing_keys: keys that an item lacks are left out.

    Raises:
        ConfigError: for an unknown axis, or none, or one of ``vector_keys`` that isn't among ``keys``.
        DataError: when called with items that are no volumes, or of different spatial shapes.
    """

    def draw(self, shape: Sequence[int]) -> dict[str, Any]:
        return {"axis": self.draw_axis()}

    def apply(self, key: Hashable, image: torch.Tensor, drawn: Mapping[str, Any]) -> torch.Tensor:
        flip = FlipVectorField(drawn["axis"])
        return flip(image) if key in self.vector_keys else flip.move(image)

    def opposite(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        return dict(drawn)


class RandRotate90VectorFieldd(_RandAxisVectorFieldd):
    """Rotate images, labels and vector fields by 90°, 180° or 270° about one axis, drawn from ``axes``.

    See `Rotate90VectorField`. Shapes stay as they are, so that patches fit in a batch: when the two axes that would
    be exchanged differ in length, the rotation is by 180°.

    Args:
        keys: images, labels and fields (C, Z, Y, X) of one spatial shape; all move in space.
        vector_keys: those of ``keys`` that are vector fields (3, Z, Y, X), components (x, y, z), transformed as well.
        prob: probability of a rotation.
        axes: axes to draw from, each as likely as another.
        allow_missing_keys: keys that an item lacks are left out.

    Raises:
        ConfigError: for an unknown axis, or none, or one of ``vector_keys`` that isn't among ``keys``.
        DataError: when called with items that are no volumes, or of different spatial shapes.
    """

    def draw(self, shape: Sequence[int]) -> dict[str, Any]:
        axis = self.draw_axis()
        k = int(self.R.randint(1, 4))
        first, second = PLANES[axis]
        return {"axis": axis, "k": k if shape[first] == shape[second] else 2}

    def apply(self, key: Hashable, image: torch.Tensor, drawn: Mapping[str, Any]) -> torch.Tensor:
        rotate = Rotate90VectorField(drawn["axis"], int(drawn["k"]))
        return rotate(image) if key in self.vector_keys else rotate.move(image)

    def opposite(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        return {**drawn, "k": -int(drawn["k"])}
