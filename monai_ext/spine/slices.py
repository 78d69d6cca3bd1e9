"""Greyscale images in PNG, JPEG and TIFF files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monai_ext.data.majority import unlike_most
from monai_ext.data.sizes import DEFLATE_RATIO, check_claim
from monai_ext.data.tiff_slices import check_mask_header, decode_slice, reason
from monai_ext.errors import DataError
from monai_ext.spine.image import UNKNOWN_AFFINE, SeriesImage

_TIFF = (".tif", ".tiff")
SLICE_SUFFIXES = (".png", ".jpg", ".jpeg", *_TIFF)
# Of files whose content is another than their names say, too; by names of Pillow.
_LOSSY = ("JPEG", "MPO", "JPEG2000", "WEBP", "AVIF")


def read_slice(path: str | Path) -> np.ndarray:
    """Read one image as intensities (Y, X), float32; colours are converted to greyscale, 16 bits are kept.

    Args:
        path: PNG, JPEG or TIFF.

    Raises:
        DataError: naming the file that is missing, damaged, truncated, holds several images, or claims more pixels
            than it can hold.
    """
    path = Path(path)
    if path.suffix.lower() in _TIFF:
        return decode_slice(path)[1].astype(np.float32)
    return _decoded(path, lambda image: image if _is_grey(image) else image.convert("L"))


def read_mask(path: str | Path) -> np.ndarray:
    """Read one mask as values (Y, X), float32; of colours the brightest channel counts.

    Args:
        path: PNG or TIFF without loss.

    Raises:
        DataError: see `read_slice`; for a lossy format, a palette (its numbers and its colours may differ in what is
            0), or transparency.
    """
    path = Path(path)
    if path.suffix.lower() in _TIFF:
        header, pixels = decode_slice(path)
        check_mask_header(header, path)
        return pixels.astype(np.float32)
    return _decoded(path, lambda image: _mask_channel(image, path))


def _mask_channel(image: Any, path: Path) -> Any:
    fault = ""
    if image.format in _LOSSY:
        fault = (
            f"is a mask in a lossy format ({image.format}), which changes values along its edges; write it without loss"
        )
    elif image.mode in ("P", "PA"):
        fault = "is a mask with a palette, whose numbers and colours may differ in what is 0; save it as greyscale"
    elif "A" in image.getbands() and image.getchannel("A").getextrema() != (255, 255):
        fault = "is a mask with transparency, which isn't read; save it as greyscale"
    if fault:
        raise DataError(fault, path, code="mask-format")
    return image if _is_grey(image) else np.asarray(image.convert("RGB")).max(axis=-1)


def _is_grey(image: Any) -> bool:
    # Modes such as I;16 and I hold more than 8 bits, which "L" would cut off.
    return image.mode.startswith(("I", "F")) or image.mode == "L"


def _decoded(path: Path, channel: Callable[[Any], Any]) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(path) as image:
            if getattr(image, "n_frames", 1) != 1:
                raise DataError(f"holds {image.n_frames} images; expected one file per slice", path)  # type: ignore[attr-defined]
            # bits of one channel at least
            pixels = image.width * image.height
            check_claim(pixels // 8 if image.mode == "1" else pixels, path.stat().st_size, path, DEFLATE_RATIO)
            return np.array(channel(image), dtype=np.float32)
    except DataError:
        raise
    except Exception as error:  # damaged files make the decoders raise almost anything
        raise DataError(reason(error), path) from error


def read_slice_series(files: Sequence[Path]) -> SeriesImage:
    """Slices in the given order as a series without geometry.

    Args:
        files: PNG, JPEG or TIFF, one per slice.

    Raises:
        DataError: naming a file that can't be read or has another shape than most.
    """
    images = [read_slice(path) for path in files]
    sizes = {path: "{} x {} pixels".format(*image.shape) for path, image in zip(files, images, strict=True)}
    usual, others = unlike_most(sizes)
    for path in others:
        raise DataError(f"has {sizes[path]}, but of the same series {usual}; split the series by shape", path)
    return SeriesImage(np.stack([image.T for image in images], axis=-1), UNKNOWN_AFFINE, 2, has_geometry=False)
