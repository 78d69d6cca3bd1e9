"""FreeSurfer volumes, ``.mgz`` and ``.mgh``; the header is read by nibabel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from nibabel.freesurfer import MGHImage

from monai_ext.data.geometry import Geometry, checked_affine
from monai_ext.data.sizes import DEFLATE_RATIO, SLACK, beginning, check_claim, claimed_bytes, inflate
from monai_ext.errors import DataError

_HEADER = 284
_SAYS = slice(28, 30)
_GZIP = b"\x1f\x8b"
_TYPES = {0: "u1", 1: "i4", 3: "f4", 4: "i2", 10: "u2"}


def stored_mgh(path: Path) -> tuple[np.ndarray, Geometry]:
    """Voxels (X, Y, Z) as they are stored, and their affine.

    Args:
        path: ``.mgz`` or ``.mgh``, compressed or not.

    Raises:
        DataError: with the path: not MGH, not 3-D, no geometry, more claimed than there is.
        OSError: for a file that can't be read.
        EOFError: for a truncated gzip stream, and another error of its library for a damaged one.
    """
    with open(path, "rb") as file:
        content = file.read(1 << 16)
    compressed = content.startswith(_GZIP)
    head = (beginning(content, _HEADER) if compressed else content)[:_HEADER]
    if len(head) < _HEADER or head[:4] != bytes([0, 0, 0, 1]):
        raise DataError("is not a FreeSurfer volume (no such header)", path, code="unreadable")
    header = MGHImage.header_class(head, check=False)
    kind = int(header["type"])
    if kind not in _TYPES:
        raise DataError(f"holds values of the type number {kind}; expected integers or floats", path, code="format")
    shape = tuple(int(length) for length in header["dims"])
    dtype = np.dtype(">" + _TYPES[kind])
    if shape[3] != 1:
        raise DataError(f"expected one 3-D volume, got 4 dimensions of shape {shape}", path, code="format")
    claimed = claimed_bytes(shape, dtype.itemsize, path)
    check_claim(_HEADER + claimed, path.stat().st_size, path, DEFLATE_RATIO if compressed else 1)
    content = path.read_bytes()
    # tags of any length come behind the voxels
    content = inflate(content, _HEADER + claimed + SLACK, path) if compressed else content
    if len(content) < _HEADER + claimed:
        raise EOFError
    affine = checked_affine(header.get_affine(), path)
    # nibabel sets the flag when it takes the default
    note = "" if any(head[_SAYS]) else "doesn't say which way its axes run; left and right may be swapped"
    return np.frombuffer(content, dtype, int(np.prod(shape)), _HEADER).reshape(shape[:3], order="F"), Geometry(
        affine, note
    )
