"""Flips and rotations by 90° of vector fields: the vectors are transformed with the space."""

from __future__ import annotations

import torch
from monai.config import NdarrayOrTensor
from monai.transforms import Flip, Rotate90, Transform
from monai.utils import convert_to_dst_type

from monai_ext.errors import ConfigError, DataError

# Spatial axes of an array (C, Z, Y, X); the component along axis i is channel 2 - i.
AXES = ("z", "y", "x")
PLANES = {"z": (1, 2), "y": (0, 2), "x": (0, 1)}


class FlipVectorField(Transform):
    """Flip a vector field (3, Z, Y, X), components (x, y, z), along an axis; the component along it changes sign.

    Exact: values move and change sign, without interpolation. It is its own inverse.

    Args:
        axis: "z", "y" or "x".

    Raises:
        ConfigError: for another axis.
        DataError: when called with anything but floats of that shape.
    """

    def __init__(self, axis: str) -> None:
        self.axis = known_axis(axis)

    def __call__(self, array: NdarrayOrTensor) -> NdarrayOrTensor:
        """Flip the field; an array is returned as an array, a tensor as a tensor, a ``MetaTensor`` as one."""
        check_vector_field(array)
        moved = self.move(array)
        # a copy already, whose values may be changed in place
        moved[2 - AXES.index(self.axis)].neg_()
        return convert_to_dst_type(moved, array, dtype=moved.dtype)[0]

    def move(self, image: NdarrayOrTensor) -> torch.Tensor:
        """The same in space alone, for an image without vectors.

        Args:
            image: image or labels (C, Z, Y, X).
        """
        flip = Flip(spatial_axis=AXES.index(self.axis))
        with flip.trace_transform(False):
            return flip(image)


class Rotate90VectorField(Transform):
    """Rotate a vector field (3, Z, Y, X), components (x, y, z), about an axis by multiples of 90°.

    In space this is ``numpy.rot90(array, k, axes)`` with the axes (Y, X), (Z, X), (Z, Y) of the volume for z, y, x.
    Exact: values move and change sign, without interpolation. ``k`` and ``-k`` are inverse.

    Args:
        axis: "z", "y" or "x".
        k: number of rotations by 90°; negative for the other direction.

    Raises:
        ConfigError: for another axis, or ``k`` that is not an integer.
        DataError: when called with anything but floats of that shape.
    """

    def __init__(self, axis: str, k: int) -> None:
        self.axis = known_axis(axis)
        if int(k) != k:
            raise ConfigError(f"Rotate90VectorField: k (rotations by 90 degrees) must be an integer, got {k}")
        self.k = int(k) % 4

    def __call__(self, array: NdarrayOrTensor) -> NdarrayOrTensor:
        """Rotate the field; an array is returned as an array, a tensor as a tensor, a ``MetaTensor`` as one."""
        check_vector_field(array)
        moved = self.move(array)
        first, second = (2 - axis for axis in PLANES[self.axis])
        for _ in range(self.k):
            # a copy already; vectors along the second axis of the plane now point against the first
            before = moved[first].clone()
            moved[first] = -moved[second]
            moved[second] = before
        return convert_to_dst_type(moved, array, dtype=moved.dtype)[0]

    def move(self, image: NdarrayOrTensor) -> torch.Tensor:
        """The same in space alone, for an image without vectors.

        Args:
            image: image or labels (C, Z, Y, X).
        """
        rotate = Rotate90(self.k, PLANES[self.axis])
        with rotate.trace_transform(False):
            return rotate(image)


def known_axis(axis: str) -> str:
    """The axis itself.

    Raises:
        ConfigError: when it isn't one of "z", "y", "x".
    """
    if axis not in AXES:
        raise ConfigError(f"an axis of a vector field must be one of {list(AXES)}, got {axis!r}")
    return axis


def check_vector_field(array: NdarrayOrTensor) -> None:
    """Raise `DataError` for what isn't a field of floats (3, Z, Y, X)."""
    if array.ndim != 4 or array.shape[0] != 3:
        raise DataError(f"a vector field must have the shape (3, Z, Y, X), got {tuple(array.shape)}")
    if not str(array.dtype).removeprefix("torch.").startswith(("float", "bfloat")):
        raise DataError(f"a vector field must hold floats, got {array.dtype}; decode stored normals first")
