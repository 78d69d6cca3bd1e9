"""Files with one single-channel 2-D image each: listed in natural order, checked by their header, decoded."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from monai_ext.data.majority import unlike_most
from monai_ext.data.sizes import DEFLATE_RATIO, check_claim
from monai_ext.data.walk import natural_key
from monai_ext.errors import DataError

SUFFIXES = (".tif", ".tiff")
DAMAGED = "copy or download it again"
# Compressions that may change values, by tifffile's names.
_LOSSY = (
    *("OJPEG", "JPEG", "JPEG_99", "ALT_JPEG", "JPEG_LOSSY", "JPEGXR_NDPI", "JPEGXR", "JPEGXL", "JPEGXL_DNG"),
    *("JPEG2000", "JPEG_2000_LOSSY", "APERIO_JP2000_YCBC", "APERIO_JP2000_RGB", "WEBP", "WEBP_DEPRECATED", "LERC"),
)
# Greatest growth of a compression; a blank page of a fax grows most.
_RATIOS = {"NONE": 1, "ADOBE_DEFLATE": DEFLATE_RATIO, "DEFLATE": DEFLATE_RATIO, "LZW": 4096, "PACKBITS": 128}
_MOST_RATIO = 1 << 17
_PHOTOMETRIC = 262


class SliceFile(NamedTuple):
    """A slice as the folder lists it: name, size in bytes, modification time in ns."""

    name: str
    size: int
    mtime: int


class SliceHeader(NamedTuple):
    """Content of a slice's header: shape (Y, X), type with byte order, the first byte of the pixels when they are in
    the file as in an array (and 0 is black), and whether its compression may have changed values."""

    shape: tuple[int, int]
    dtype: str
    offset: int | None
    lossy: bool = False


def list_slices(folder: str | Path) -> list[SliceFile]:
    """The TIFF files of a folder in natural order, hidden ones left out; opens none of them.

    Raises:
        DataError: when there is no such folder, or no TIFF file in it.
    """
    files, others = [], 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or not entry.name.lower().endswith(SUFFIXES):
                    others += 1
                    continue
                try:
                    status = entry.stat()
                except OSError as error:
                    raise DataError(reason(error), entry.path, "unreadable") from error
                if not stat.S_ISREG(status.st_mode):
                    raise DataError("is not a file", entry.path, "unreadable")
                files.append(SliceFile(entry.name, status.st_size, status.st_mtime_ns))
    except (FileNotFoundError, NotADirectoryError):
        raise DataError("is not a folder", folder) from None
    except OSError as error:
        raise DataError(reason(error), folder, "unreadable") from error
    if not files:
        found = f"only {others} other files" if others else "nothing at all"
        raise DataError(f"holds no TIFF slices ({', '.join(SUFFIXES)}), {found}", folder)
    return sorted(files, key=lambda file: natural_key(file.name))


def read_slice_header(path: Path) -> SliceHeader:
    """Header of a file with one single-channel image.

    Raises:
        DataError: naming the file: missing, not a TIFF, empty, truncated, several images, colour, complex numbers.
    """
    return _open(path, decode=False)[0]


def decode_slice(path: Path) -> tuple[SliceHeader, np.ndarray]:
    """Header and pixels (Y, X) in native byte order, greater is brighter; raises as `read_slice_header`, and for
    damaged pixels."""
    return _open(path, decode=True)


def check_mask_header(header: SliceHeader, path: Path) -> None:
    """Refuse a mask whose compression may have changed values.

    Raises:
        DataError: naming the file.
    """
    if header.lossy:
        raise DataError(
            "is a mask in a format that may be lossy, which changes values along its edges; write it without loss",
            path,
            code="mask-format",
        )


def _open(path: Path, decode: bool) -> tuple[SliceHeader, np.ndarray]:
    import tifffile

    try:
        size = path.stat().st_size
        if size == 0:
            raise DataError(f"is empty (0 bytes); {DAMAGED}", path, "unreadable")
        with tifffile.TiffFile(path) as tiff:
            header = _header(tiff, size, path)
            pixels = _pixels(tiff.pages.first) if decode else np.empty(0)
    except DataError:
        raise
    except Exception as error:  # damaged files make the parser and the codecs raise almost anything
        raise DataError(reason(error), path, "unreadable") from error
    return header, pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def _pixels(page: Any) -> np.ndarray:
    pixels = page.asarray(maxworkers=1)
    if not _is_inverted(page):
        return pixels
    return ~pixels if pixels.dtype.kind == "b" else (1 << page.bitspersample) - 1 - pixels


def _is_inverted(page: Any) -> bool:
    """Whether 0 is white; a page that doesn't say so is taken as all programs take it, with 0 black."""
    return _PHOTOMETRIC in page.tags and page.photometric.name == "MINISWHITE"


def _header(tiff: Any, size: int, path: Path) -> SliceHeader:
    if len(tiff.pages) == 0:
        raise DataError(f"is truncated (no image in it); {DAMAGED}", path, "unreadable")
    page = tiff.pages.first
    images = len(tiff.pages)
    if tiff.is_imagej:  # which writes large stacks with the header of their first image only
        images = max(images, (tiff.imagej_metadata or {}).get("images", 1))
    if images != 1:
        raise DataError(f"holds {images} images; expected a folder with one file per slice", path, "format")
    if page.samplesperpixel != 1 or page.photometric.name == "PALETTE" or len(page.shape) != 2:
        raise DataError(f"is a colour image of shape {page.shape}; expected one intensity per pixel", path, "format")
    if page.dtype is None or page.dtype.kind not in "buif":
        kind = page.dtype or f"of {page.bitspersample} bits"
        raise DataError(f"has pixels of type {kind}; expected integers or floats", path, "format")
    ends = [first + length for first, length in zip(page.dataoffsets, page.databytecounts, strict=True)]
    if not ends or 0 in page.shape:
        raise DataError(f"holds no pixels (shape {page.shape})", path)
    if page.is_contiguous:
        ends.append(page.dataoffsets[0] + page.nbytes)
    claimed = page.size * page.bitspersample // 8
    check_claim(claimed, sum(page.databytecounts), path, _RATIOS.get(page.compression.name, _MOST_RATIO))
    if max(ends) > size:
        raise DataError(f"is truncated ({size} of {max(ends)} bytes); {DAMAGED}", path, "unreadable")
    if _is_inverted(page) and page.dtype.kind not in "bu":
        raise DataError(f"has 0 as white and pixels of type {page.dtype}, whose black isn't known; invert it", path)
    dtype = page.dtype.newbyteorder(tiff.byteorder).str
    in_place = page.is_contiguous and not _is_inverted(page)
    return SliceHeader(page.shape, dtype, page.dataoffsets[0] if in_place else None, page.compression.name in _LOSSY)


def disagreements(headers: Mapping[str, SliceHeader]) -> dict[str, str]:
    """The slices of a stack, by name, that differ from most of the others, and what is different."""
    found: dict[str, str] = {}
    kinds: dict[str, dict[str, Any]] = {
        "shape": {name: header.shape for name, header in headers.items()},
        "data type": {name: native(header.dtype) for name, header in headers.items()},
    }
    for kind, values in kinds.items():
        usual, others = unlike_most(values)
        for name in others:
            found.setdefault(name, f"has {kind} {values[name]}, but {usual}; all slices of a stack must agree")
    return found


def native(dtype: str) -> np.dtype:
    """The same type in this machine's byte order."""
    return np.dtype(dtype).newbyteorder("=")


def reason(error: Exception) -> str:
    """The reason why a file can't be read, in plain words."""
    if isinstance(error, FileNotFoundError):
        return "file not found"
    if isinstance(error, PermissionError):
        return "may not be read (permission denied)"
    text = " ".join(str(error).split())
    if type(error).__name__ == "TiffFileError":
        return f"is not a TIFF file, or damaged ({text}); {DAMAGED}"
    return f"can't be read ({type(error).__name__}: {text}); {DAMAGED}"
