"""Files with one single-channel 2-D image each: listed in natural order, checked by their header, decoded."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from monai_ext.data.walk import natural_key
from monai_ext.errors import DataError

SUFFIXES = (".tif", ".tiff")
DAMAGED = "copy or download it again"


class SliceFile(NamedTuple):
    """A slice as the folder lists it: name, size in bytes, modification time in ns."""

    name: str
    size: int
    mtime: int


class SliceHeader(NamedTuple):
    """Content of a slice's header: shape (Y, X), type with byte order, and the first byte of the pixels when they are
    in the file as in an array."""

    shape: tuple[int, int]
    dtype: str
    offset: int | None


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
                    raise DataError(reason(error), entry.path) from error
                if not stat.S_ISREG(status.st_mode):
                    raise DataError("is not a file", entry.path)
                files.append(SliceFile(entry.name, status.st_size, status.st_mtime_ns))
    except (FileNotFoundError, NotADirectoryError):
        raise DataError("is not a folder", folder) from None
    except OSError as error:
        raise DataError(reason(error), folder) from error
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
    """Header and pixels (Y, X) in native byte order; raises as `read_slice_header`, and for damaged pixels."""
    return _open(path, decode=True)


def _open(path: Path, decode: bool) -> tuple[SliceHeader, np.ndarray]:
    import tifffile

    try:
        size = path.stat().st_size
        if size == 0:
            raise DataError(f"is empty (0 bytes); {DAMAGED}", path)
        with tifffile.TiffFile(path) as tiff:
            header = _header(tiff, size, path)
            pixels = tiff.pages.first.asarray(maxworkers=1) if decode else np.empty(0)
    except DataError:
        raise
    except Exception as error:  # damaged files make the parser and the codecs raise almost anything
        raise DataError(reason(error), path) from error
    return header, pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def _header(tiff: Any, size: int, path: Path) -> SliceHeader:
    if len(tiff.pages) == 0:
        raise DataError(f"is truncated (no image in it); {DAMAGED}", path)
    page = tiff.pages.first
    images = len(tiff.pages)
    if tiff.is_imagej:  # which writes large stacks with the header of their first image only
        images = max(images, (tiff.imagej_metadata or {}).get("images", 1))
    if images != 1:
        raise DataError(f"holds {images} images; expected a folder with one file per slice", path)
    if page.samplesperpixel != 1 or page.photometric.name == "PALETTE" or len(page.shape) != 2:
        raise DataError(f"is a colour image of shape {page.shape}; expected one intensity per pixel", path)
    if page.dtype is None or page.dtype.kind not in "buif":
        kind = page.dtype or f"of {page.bitspersample} bits"
        raise DataError(f"has pixels of type {kind}; expected integers or floats", path)
    ends = [first + length for first, length in zip(page.dataoffsets, page.databytecounts, strict=True)]
    if not ends or 0 in page.shape:
        raise DataError(f"holds no pixels (shape {page.shape})", path)
    if page.is_contiguous:
        ends.append(page.dataoffsets[0] + page.nbytes)
    if max(ends) > size:
        raise DataError(f"is truncated ({size} of {max(ends)} bytes); {DAMAGED}", path)
    dtype = page.dtype.newbyteorder(tiff.byteorder).str
    return SliceHeader(page.shape, dtype, page.dataoffsets[0] if page.is_contiguous else None)


def disagreement(first: SliceHeader, header: SliceHeader, name: str) -> str:
    """The difference between a slice and the first one of its stack, called ``name``; an empty string for none."""
    for kind, expected, found in (
        ("shape", first.shape, header.shape),
        ("data type", native(first.dtype), native(header.dtype)),
    ):
        if expected != found:
            return f"has {kind} {found}, but {name} has {expected}; all slices of a stack must agree"
    return ""


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
