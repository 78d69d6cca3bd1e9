"""MetaImage volumes: ``.mha``, and ``.mhd`` with its voxels beside it.

Format: https://itk.org/Wiki/ITK/MetaIO/Documentation. Voxels are read here and not by ITK, which returns the rest of a
damaged compressed file as noise, without an error; the affine is that of ITK's reader.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from monai_ext.data.geometry import Geometry, checked_affine
from monai_ext.data.nrrd_file import NO_DIRECTIONS
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

_DTYPES = {
    **{"MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4"},
    **{"MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8"},
    **{"MET_FLOAT": "f4", "MET_DOUBLE": "f8"},
}
# names of older versions
_MATRIX, _OFFSET = ("transformmatrix", "rotation", "orientation"), ("offset", "position", "origin")


def stored_meta_image(path: Path) -> tuple[np.ndarray, Geometry]:
    """Voxels (X, Y, Z) as they are stored, and their affine.

    Args:
        path: ``.mha`` or ``.mhd``.

    Raises:
        DataError: with the path: not MetaImage, not 3-D, several values per voxel, voxels as text, no geometry, more
            claimed than there is.
        OSError: for a file that can't be read.
        EOFError: for a truncated stream, and another error of its library for a damaged one.
    """
    fields, offset = _fields(path)
    shape = whole_numbers(fields.get("dimsize", ""), path)
    axes = len(shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    if len(shape) != 3:
        raise DataError(f"expected one 3-D volume, got {axes} dimensions of shape {tuple(shape)}", path, code="format")
    if fields.get("elementnumberofchannels", "1") != "1":
        many = fields["elementnumberofchannels"]
        raise DataError(f"holds {many} values per voxel; expected one intensity", path, code="format")
    if not _is_true(fields, "binarydata", "true"):
        raise DataError("holds its voxels as text; convert it", path, code="format")
    kind = fields.get("elementtype", "").upper()
    if kind not in _DTYPES:
        raise DataError(f"holds values of type {kind!r}; expected integers or floats", path, code="format")
    big = _is_true(fields, "binarydatabyteordermsb") or _is_true(fields, "elementbyteordermsb")
    data = _data(fields, path)
    skipped = int(numbers(fields.get("headersize", "0"), path, 1)[0])
    raw = RawVoxels(
        header=path,
        data=data,
        offset=-1 if skipped == -1 else (offset if data == path else skipped),
        compressed=_is_true(fields, "compresseddata"),
        dtype=np.dtype((">" if big else "<") + _DTYPES[kind]),
        shape=tuple(shape),
    )
    geometry = _geometry(fields, axes, path)
    return raw.read(), geometry


def meta_image_data(path: Path) -> Path:
    """The file with the voxels of a header, which may be the same; raises as `stored_meta_image`."""
    return _data(_fields(path)[0], path)


def _data(fields: Mapping[str, str], path: Path) -> Path:
    name = fields["elementdatafile"]
    return path if name.upper() == "LOCAL" else data_beside(path, name)


def _fields(path: Path) -> tuple[dict[str, str], int]:
    """Fields by their names in lower case, and the first byte behind them: ``ElementDataFile`` is the last."""
    with open(path, "rb") as file:
        content = file.read(MOST_HEADER)
    fields: dict[str, str] = {}
    at = 0
    while at < len(content) and "elementdatafile" not in fields:
        end = content.find(b"\n", at)
        line = content[at : end if end >= 0 else len(content)]
        at = end + 1 if end >= 0 else len(content)
        name, separator, value = line.decode("utf-8", errors="replace").partition("=")
        if not separator:
            break
        fields[name.strip().lower()] = value.strip()
    if "elementdatafile" not in fields or "dimsize" not in fields:
        raise DataError("is not a MetaImage", path, code="unreadable")
    return fields, at


def _is_true(fields: Mapping[str, str], name: str, default: str = "false") -> bool:
    return fields.get(name, default).lower() in ("true", "1", "t")


def _geometry(fields: Mapping[str, str], axes: int, path: Path) -> Geometry:
    matrix = next((fields[name] for name in _MATRIX if name in fields), "")
    offset = next((fields[name] for name in _OFFSET if name in fields), "0 " * axes)
    spacing = fields.get("elementspacing", fields.get("elementsize", "1 " * axes))
    unit = unit_in_mm([fields.get("distanceunits", "")], path)
    # a row of the matrix is the direction of an axis
    rows = np.reshape(numbers(matrix, path, axes * axes), (axes, axes)) if matrix else np.eye(axes)
    columns = rows[:3, :3].T * np.array(numbers(spacing, path, axes)[:3])
    affine = affine_to_ras(columns * unit, np.array(numbers(offset, path, axes)[:3]) * unit)
    return Geometry(checked_affine(affine, path), "" if matrix else NO_DIRECTIONS)
