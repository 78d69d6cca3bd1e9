"""Extracted slices on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monai_ext.data.majority import unlike_most
from monai_ext.data.prepared_inputs import image_files
from monai_ext.errors import DataError


def read_extracted_slices(named: Sequence[Any]) -> np.ndarray:
    """Read files in nested lists as one float32 array (..., Y, X); each file is read once.

    Args:
        named: paths in lists of any depth.

    Raises:
        DataError: see `read_extracted_slice`; when the slices have different shapes.
    """
    images = {path: read_extracted_slice(path) for path in dict.fromkeys(image_files(list(named)))}
    for path, difference in odd_slices(images).items():
        raise DataError(difference, path)
    return _stack(named, images)


def odd_slices(images: Mapping[str, np.ndarray]) -> dict[str, str]:
    """The slices of a volume, by path, that have another shape than most of the others, and what is different."""
    shapes = {path: image.shape for path, image in images.items()}
    usual, others = unlike_most(shapes)
    return {path: f"has shape {shapes[path]}, but of its volume {usual}" for path in others}


def _stack(named: Any, images: Mapping[str, np.ndarray]) -> np.ndarray:
    if isinstance(named, str | Path):
        return images[str(named)]
    return np.stack([_stack(entry, images) for entry in named])


def read_extracted_slice(path: str | Path) -> np.ndarray:
    """Read one slice: float32 (Y, X) from 0 to 1.

    Args:
        path: ``.npy``.

    Raises:
        DataError: naming the file that is missing, damaged, no 2-D array, or not within 0 to 1.
    """
    try:
        image = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise DataError(
            "file not found; extract the slices again by `python -m monai_ext extract-slices`", path
        ) from None
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"is not a readable numpy array ({error})", path) from error
    if not isinstance(image, np.ndarray) or image.ndim != 2 or image.dtype.kind not in "fiu" or image.size == 0:
        raise DataError("expected one 2-D array of numbers (.npy)", path)
    if not (image.min() >= 0 and image.max() <= 1):
        raise DataError(
            f"goes from {image.min():g} to {image.max():g}, expected 0 to 1 (-1000 to 400 HU); "
            "use slices made by `python -m monai_ext extract-slices`",
            path,
        )
    return image.astype(np.float32, copy=False)
