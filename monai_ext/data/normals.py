"""Storage of unit normals as unsigned integers, with (0, 0, 0) for background."""

from __future__ import annotations

import numpy as np
import torch

from monai_ext.errors import ConfigError, DataError


def encode_normals(normals: np.ndarray, dtype: str | np.dtype = "uint16", channel_axis: int = -1) -> np.ndarray:
    """Store vectors as uint16 = (n + 1)·32767.5 or uint8 = (n + 1)·127.5, truncated; zero vectors become (0, 0, 0).

    A vector that isn't zero never becomes (0, 0, 0): the one that would, near (-1, -1, -1), becomes (1, 1, 1).

    Args:
        normals: floats, three components on ``channel_axis``, in [-1, 1] (other values are clipped).
        dtype: "uint16", "uint8", or a float type, to which the components are cast as they are.
        channel_axis: axis of the components, -1 or 0 for instance.

    Returns:
        An array of the same layout; one step is 1/32767.5 or 1/127.5.

    Raises:
        ConfigError: for another ``dtype``.
        DataError: when the axis doesn't have three components, the values aren't floats, or some are not finite.
    """
    target = _storage_type(dtype)
    normals = _three_components(normals, channel_axis)
    if normals.dtype.kind != "f":
        raise DataError(f"normals to be encoded must be floats, got {normals.dtype}; are they encoded already?")
    if not np.isfinite(normals).all():
        raise DataError("normals hold NaN or infinite values, which can't be stored; look at what computed them")
    if target.kind == "f":
        return normals.astype(target, copy=False)
    widened = np.asarray(normals, np.result_type(normals, np.float32).newbyteorder("="))
    return stored_normals(torch.from_numpy(widened), target.name, channel_axis).numpy()


def stored_normals(normals: torch.Tensor, dtype: str, channel_axis: int) -> torch.Tensor:
    """`encode_normals` of a tensor of float32 or float64 that is finite, on any device, as "uint16" or "uint8"."""
    scaled = normals.clamp(-1, 1).add_(1).mul_(_half_range(np.dtype(dtype)))
    foreground = (normals != 0).any(dim=channel_axis, keepdim=True)
    nothing = (scaled < 1).all(dim=channel_axis, keepdim=True)
    return scaled.masked_fill_(nothing, 1.0).mul_(foreground).to(getattr(torch, dtype))


def decode_normals(stored: np.ndarray, channel_axis: int = -1) -> np.ndarray:
    """Vectors from what `encode_normals` stored: float32 in [-1, 1], the zero vector for (0, 0, 0).

    The reference decodes background as (-1, -1, -1), a vector of length 1.7 that a loss takes for a normal.

    Args:
        stored: uint16 or uint8, three components on ``channel_axis``; floats are returned as they are.
        channel_axis: axis of the components, -1 or 0 for instance.

    Raises:
        DataError: when the axis doesn't have three components, or the type is another.
    """
    stored = _three_components(stored, channel_axis)
    if stored.dtype.kind == "f":
        return stored
    if stored.dtype.kind != "u" or stored.dtype.itemsize > 2:
        raise DataError(f"normals must be stored as uint16, uint8 or floats, got {stored.dtype}")
    normals = stored.astype(np.float32)
    normals /= _half_range(stored.dtype)
    normals -= 1
    np.copyto(normals, 0, where=~stored.any(axis=channel_axis, keepdims=True))
    return normals


def _half_range(dtype: np.dtype) -> float:
    return float(np.iinfo(dtype).max) / 2


def _storage_type(dtype: str | np.dtype) -> np.dtype:
    try:
        target = np.dtype(dtype)
    except TypeError:
        target = np.dtype(object)
    if target.kind != "f" and target not in (np.uint16, np.uint8):
        raise ConfigError(f"encode_normals: dtype must be 'uint16', 'uint8' or a float type, got {dtype!r}")
    return target


def _three_components(array: np.ndarray, channel_axis: int) -> np.ndarray:
    array = np.asarray(array)
    if not -array.ndim <= channel_axis < array.ndim or array.shape[channel_axis] != 3:
        raise DataError(
            f"normals must have 3 components (x, y, z) on axis {channel_axis}, got the shape {array.shape}; "
            "say by channel_axis where they are"
        )
    return array
