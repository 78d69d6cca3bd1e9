"""NIfTI files: versions 1 and 2, either byte order, gzip-compressed, or a pair of ``.hdr`` and ``.img``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np

from monai_ext.data.sizes import DEFLATE_RATIO, SLACK, beginning, check_claim, claimed_bytes, inflate
from monai_ext.errors import DataError

_GZIP = b"\x1f\x8b"
# Compressed bytes that surely hold a header.
_HEAD = 1 << 16
_KINDS = {
    (348, b"n+1\0"): nib.Nifti1Header,
    (348, b"ni1\0"): nib.nifti1.Nifti1PairHeader,
    (540, b"n+2\0"): nib.Nifti2Header,
    (540, b"ni2\0"): nib.nifti2.Nifti2PairHeader,
}
_NOT_NUMBERS = {1: "single bits", 32: "complex numbers", 128: "colours (RGB)", 1792: "complex numbers"} | {
    2048: "complex numbers",
    2304: "colours (RGBA)",
}


class NiftiPlace(NamedTuple):
    """Place and type of a NIfTI volume's voxels, as far as its header tells.

    Args:
        header: nibabel's.
        file: the one that holds the voxels.
        compressed: whether that is a gzip stream.
        offset: first byte of the voxels, inflated.
        shape: (X, Y, Z), X the fastest.
        dtype: with byte order.
    """

    header: Any
    file: Path
    compressed: bool
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def end(self) -> int:
        """First byte behind the voxels, inflated."""
        return self.offset + math.prod(self.shape) * self.dtype.itemsize


def nifti_place(path: Path) -> NiftiPlace:
    """Read a header; the voxels that it claims can be in the file.

    Args:
        path: ``.nii``, ``.nii.gz``, or ``.hdr`` beside its ``.img``; any case.

    Raises:
        DataError: with the path: not NIfTI, not 3-D, complex, colour, more claimed or held than there should be.
        OSError: for a file that can't be read.
        EOFError: for a truncated gzip stream, and another error of its library for a damaged one.
    """
    header, compressed = _header_of(path)
    shape, dtype = _shape(header, path), header.get_data_dtype()
    claimed_bytes(shape, dtype.itemsize, path)
    file = path if header.is_single else image_beside(path)
    size, offset = file.stat().st_size, int(header.get_data_offset())
    if not 0 <= offset <= size * DEFLATE_RATIO:
        raise DataError(f"has voxels from byte {offset} on by its header, which is wrong", path, code="unreadable")
    place = NiftiPlace(header, file, compressed, offset, shape, dtype)
    check_claim(place.end, size, path, DEFLATE_RATIO if compressed else 1)
    if not compressed and size > place.end + SLACK:
        raise DataError(f"holds {size} bytes, more than the {place.end} its header says", path, code="too-large")
    return place


def stored_nifti(path: Path) -> tuple[Any, np.ndarray]:
    """Header and voxels (X, Y, Z) as they are stored; read-only, in the file's own type and byte order.

    Whatever the header claims, no more is allocated than the file can hold.

    Args:
        path: see `nifti_place`.

    Raises:
        DataError: see `nifti_place`.
        OSError: see `nifti_place`.
        EOFError: see `nifti_place`.
    """
    place = nifti_place(path)
    content = place.file.read_bytes()
    if place.compressed:
        content = inflate(content, place.end + SLACK, path)
    if len(content) < place.end:
        raise EOFError
    voxels = np.frombuffer(content, place.dtype, math.prod(place.shape), place.offset)
    return place.header, voxels.reshape(place.shape, order="F")


def image_beside(header: Path) -> Path:
    """The ``.img`` of a ``.hdr``.

    Raises:
        DataError: when there is none.
    """
    names = {path.name.lower(): path for path in header.parent.iterdir()}
    image = names.get(f"{header.stem}.img".lower())
    if image is None:
        raise DataError(f"has no {header.stem}.img beside it, which holds its voxels", header, code="unreadable")
    return image


def _header_of(path: Path) -> tuple[Any, bool]:
    """The header, and whether the file is compressed."""
    with open(path, "rb") as file:
        head = file.read(_HEAD)
    compressed = path.name.lower().endswith(".gz")
    if compressed != head.startswith(_GZIP):
        which = "is not gzip-compressed although" if compressed else "is gzip-compressed, but not"
        raise DataError(f"{which} its name says so; rename it, or download it again", path, code="unreadable")
    head = beginning(head, 540) if compressed else head[:540]
    if compressed and len(head) < 348:
        raise EOFError
    return _header(head, path), compressed


def _header(content: bytes, path: Path) -> Any:
    for order in ("little", "big"):
        length = int.from_bytes(content[:4], order)
        magic = content[344:348] if length == 348 else content[4:8]
        if (length, magic) in _KINDS:
            break
    else:
        if path.suffix.lower() == ".hdr" and content[:4] in (b"\x5c\x01\0\0", b"\0\0\x01\x5c"):
            raise DataError("is ANALYZE, which doesn't tell left from right; convert it", path, code="format")
        raise DataError("is not a NIfTI image (no such header)", path, code="unreadable")
    kind = _KINDS[length, magic]
    if kind.is_single == (path.suffix.lower() == ".hdr"):
        raise DataError(f"is a NIfTI {'file' if kind.is_single else 'header'} with the wrong suffix; rename it", path)
    place = 70 if length == 348 else 12
    code = int.from_bytes(content[place : place + 2], order)
    if code in _NOT_NUMBERS:
        raise DataError(f"holds {_NOT_NUMBERS[code]}; expected one intensity per voxel", path, code="format")
    if len(content) < length:
        raise EOFError
    try:
        header = kind(content[:length])
    except Exception as error:  # of nibabel's many
        raise DataError(f"is not a NIfTI image ({' '.join(str(error).split())})", path, code="unreadable") from error
    # nibabel makes an edge of 0 one of 1 mm
    edges = kind(content[:length], check=False)["pixdim"][1:4]
    header["pixdim"][1:4][edges == 0] = 0
    return header


def _shape(header: Any, path: Path) -> tuple[int, ...]:
    shape = [int(length) for length in header["dim"][1 : int(header["dim"][0]) + 1]]
    while len(shape) > 3 and shape[-1] == 1:
        del shape[-1]
    if len(shape) != 3:
        raise DataError(
            f"expected one 3-D volume, got {len(shape)} dimensions of shape {tuple(shape)}", path, code="format"
        )
    return tuple(shape)
