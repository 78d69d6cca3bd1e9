"""NRRD volumes: ``.nrrd``, and ``.nhdr`` with its voxels beside it.

Format: https://teem.sourceforge.net/nrrd/format.html. Voxels are read here and not by ITK, which takes 2 s to import
and can't be told how much memory a header may claim; the affine is that of ITK's reader.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from monai_ext.data.geometry import Geometry, checked_affine
from monai_ext.data.raw_voxels import (
    MOST_HEADER,
    RawVoxels,
    affine_to_ras,
    data_beside,
    numbers,
    unit_in_mm,
    whole_numbers,
)
from monai_ext.errors import DataError

NO_DIRECTIONS = "doesn't say which way its axes run (no directions in its header); left and right may be swapped"
_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_DTYPES = {name: dtype for dtype, names in _TYPES.items() for name in names}
# Signs that make an axis run to the right, to the front and to the head; an unnamed space is ITK's, as LPS.
_SPACES = {
    **dict.fromkeys(("right-anterior-superior", "ras"), (1.0, 1.0, 1.0)),
    **dict.fromkeys(("left-anterior-superior", "las"), (-1.0, 1.0, 1.0)),
}


def stored_nrrd(path: Path) -> tuple[np.ndarray, Geometry]:
    """Voxels (X, Y, Z) as they are stored, and their affine.

    Args:
        path: ``.nrrd`` or ``.nhdr``.

    Raises:
        DataError: with the path: not NRRD, not 3-D, several values per voxel, another encoding than raw and gzip, no
            geometry, more claimed than there is.
        OSError: for a file that can't be read.
        EOFError: for a truncated gzip stream, and another error of its library for a damaged one.
    """
    fields, offset = _fields(path)
    shape = whole_numbers(fields.get("sizes", ""), path)
    directions = re.findall(r"none|\([^)]*\)", fields.get("space directions", ""))
    if directions and len(directions) != len(shape):
        raise DataError(f"has {len(directions)} directions for {len(shape)} axes", path, code="geometry")
    spatial = [axis for axis in range(len(shape)) if not directions or directions[axis] != "none"]
    while not directions and len(spatial) > 3 and shape[spatial[-1]] == 1:
        spatial.pop()
    if any(shape[axis] != 1 for axis in range(len(shape)) if axis not in spatial):
        raise DataError(f"holds several values per voxel (sizes {shape}); expected one intensity", path, code="format")
    if len(spatial) != 3:
        found = tuple(shape)
        raise DataError(f"expected one 3-D volume, got {len(found)} dimensions of shape {found}", path, code="format")
    data = _data(fields, path)
    raw = RawVoxels(
        header=path,
        data=data,
        offset=_offset(fields, offset if data == path else 0, path),
        compressed=_compressed(fields, path),
        dtype=_dtype(fields, path),
        shape=tuple(shape[axis] for axis in spatial),
    )
    geometry = _geometry(fields, [directions[axis] for axis in spatial] if directions else [], spatial, path)
    return raw.read(), geometry


def nrrd_data(path: Path) -> Path:
    """The file with the voxels of a header, which may be the same; raises as `stored_nrrd`."""
    return _data(_fields(path)[0], path)


def _data(fields: Mapping[str, str], path: Path) -> Path:
    name = fields.get("data file", fields.get("datafile"))
    return path if name is None else data_beside(path, name)


def _fields(path: Path) -> tuple[dict[str, str], int]:
    with open(path, "rb") as file:
        content = file.read(MOST_HEADER)
    if not re.match(rb"NRRD000\d\r?\n", content):
        raise DataError("is not an NRRD image", path, code="unreadable")
    end = re.search(rb"\r?\n\r?\n", content)
    text = content[: end.start() if end else len(content)].decode("utf-8", errors="replace")
    fields = {}
    for line in text.splitlines()[1:]:
        name, separator, value = line.partition(": ")
        if separator and not line.startswith("#"):
            fields[name.strip().lower()] = value.strip()
    return fields, end.end() if end else len(content)


def _offset(fields: Mapping[str, str], offset: int, path: Path) -> int:
    lines = int(numbers(fields.get("line skip", fields.get("lineskip", "0")), path, 1)[0])
    skipped = int(numbers(fields.get("byte skip", fields.get("byteskip", "0")), path, 1)[0])
    if lines or skipped < -1:
        raise DataError("skips lines in front of its voxels, which isn't supported; convert it", path, code="format")
    return -1 if skipped == -1 else offset + skipped


def _compressed(fields: Mapping[str, str], path: Path) -> bool:
    encoding = fields.get("encoding", "").lower()
    if encoding not in ("raw", "gzip", "gz"):
        raise DataError(f"has the encoding {encoding!r}; expected raw or gzip, convert it", path, code="format")
    return encoding != "raw"


def _dtype(fields: Mapping[str, str], path: Path) -> np.dtype:
    kind = fields.get("type", "")
    if kind.lower() not in _DTYPES:
        raise DataError(f"holds values of type {kind!r}; expected integers or floats", path, code="format")
    order = {"little": "<", "big": ">"}.get(fields.get("endian", "little").lower(), "<")
    return np.dtype(order + _DTYPES[kind.lower()])


def _geometry(fields: Mapping[str, str], directions: list[str], spatial: list[int], path: Path) -> Geometry:
    unit = unit_in_mm(re.findall(r'"([^"]*)"', fields.get("space units", "")), path)
    if not directions:
        spacings = numbers(fields.get("spacings", "1 " * (max(spatial) + 1)), path)
        columns = np.diag([spacings[axis] for axis in spatial])
        return Geometry(checked_affine(affine_to_ras(columns, np.zeros(3)), path), NO_DIRECTIONS)
    columns = np.array([numbers(vector, path, 3) for vector in directions]).T
    origin = numbers(fields.get("space origin", "0 0 0"), path, 3)
    signs = _SPACES.get(fields.get("space", "").lower().removesuffix("-time"), (-1.0, -1.0, 1.0))
    return Geometry(checked_affine(affine_to_ras(columns * unit, np.array(origin) * unit, np.diag(signs)), path))
