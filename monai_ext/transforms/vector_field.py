"""Flips and quarter turns of vector fields: the vectors turn with the space they stand in."""

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
    """Mirror a vector field (3, Z, Y, X), components (x, y, z), along an axis; the component along it changes sign.

    Exact: values move and change sign, nothing is computed. It undoes itself.

    Args:
        axis: "z", "y" or "x".

    Raises:
        ConfigError: for another axis.
        DataError: when called with anything but floats of that shape.
    """

    def __init__(self, axis: str) -> None:
        self.axis = known_axis(axis)

    def __call__(self, array: NdarrayOrTensor) -> NdarrayOrTensor:
        """Mirror the field; an array comes back as an array, a tensor as a tensor, a ``MetaTensor`` as one."""
        check_vector_field(array)
        moved = self.move(array)
        # a copy already, whose values may be changed in place
        moved[2 - AXES.index(self.axis)].neg_()
        return convert_to_dst_type(moved, array, dtype=moved.dtype)[0]

    def move(self, image: NdarrayOrTensor) -> torch.Tensor:
        """The same in space alone, for an image (C, Z, Y, X) without vectors."""
        flip = Flip(spatial_axis=AXES.index(self.axis))
        with flip.trace_transform(False):
            return flip(image)


class Rotate90VectorField(Transform):
    """Turn a vector field (3, Z, Y, X), components (x, y, z), about an axis by quarter turns.

    In space this is ``numpy.rot90(array, k, axes)`` with the axes (Y, X), (Z, X), (Z, Y) of the volume for z, y, x.
    Exact: values move and change sign, nothing is computed. ``k`` and ``-k`` undo each other.

    Args:
        axis: "z", "y" or "x".
        k: number of quarter turns; negative ones turn the other way.

    Raises:
        ConfigError: for another axis, or ``k`` that is not a whole number.
        DataError: when called with anything but floats of that shape.
    """

    def __init__(self, axis: str, k: int) -> None:
        self.axis = known_axis(axis)
        if int(k) != k:
            raise ConfigError(f"Rotate90VectorField: k counts quarter turns and must be a whole number, got {k}")
        self.k = int(k) % 4

    def __call__(self, array: NdarrayOrTensor) -> NdarrayOrTensor:
        """Turn the field; an array comes back as an array, a tensor as a tensor, a ``MetaTensor`` as one."""
        check_vector_field(array)
        moved = self.move(array)
        first, second = (2 - axis for axis in PLANES[self.axis])
        for _ in range(self.k):
            # a copy already; what pointed along the second axis of the plane now points against the first
            before = moved[first].clone()
            moved[first] = -moved[second]
            moved[second] = before
        return convert_to_dst_type(moved, array, dtype=moved.dtype)[0]

    def move(self, image: NdarrayOrTensor) -> torch.Tensor:
        """The same in space alone, for an image (C, Z, Y, X) without vectors."""
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
