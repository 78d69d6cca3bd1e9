"""Greyscale images in PNG, JPEG and TIFF files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from monai_ext.data.tiff_slices import decode_slice, reason
from monai_ext.errors import DataError
from monai_ext.spine.image import UNKNOWN_AFFINE, SeriesImage

SLICE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")


def read_slice(path: str | Path) -> np.ndarray:
    """Read one image as intensities (Y, X), float32; colours are converted to greyscale, 16 bits are kept.

    Args:
        path: PNG, JPEG or TIFF.

    Raises:
        DataError: naming the file that is missing, damaged, truncated, or holds several images.
    """
    path = Path(path)
    if path.suffix.lower() in (".tif", ".tiff"):
        return decode_slice(path)[1].astype(np.float32)
    from PIL import Image

    try:
        with Image.open(path) as image:
            if getattr(image, "n_frames", 1) != 1:
                raise DataError(f"holds {image.n_frames} images; expected one file per slice", path)  # type: ignore[attr-defined]
            # Modes such as I;16 and I hold more than 8 bits, which "L" would cut off.
            grey = image if image.mode.startswith(("I", "F")) or image.mode == "L" else image.convert("L")
            return np.array(grey, dtype=np.float32)
    except DataError:
        raise
    except Exception as error:  # damaged files make the decoders raise almost anything
        raise DataError(reason(error), path) from error


def read_slice_series(files: Sequence[Path]) -> SeriesImage:
    """Slices in the given order as a series without geometry.

    Args:
        files: PNG, JPEG or TIFF, one per slice.

    Raises:
        DataError: naming a file that can't be read or has another shape than the first.
    """
    images = [read_slice(path) for path in files]
    for path, image in zip(files, images, strict=True):
        if image.shape != images[0].shape:
            raise DataError(
                f"has {image.shape[0]} x {image.shape[1]} pixels, but {files[0].name} of the same series has "
                f"{images[0].shape[0]} x {images[0].shape[1]}; split the series by shape",
                path,
            )
    return SeriesImage(np.stack([image.T for image in images], axis=-1), UNKNOWN_AFFINE, 2, has_geometry=False)
