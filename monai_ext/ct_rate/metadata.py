"""CT-RATE's metadata tables: slope and intercept for Hounsfield units, and voxel edges."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from monai_ext.ct_rate.finding import volume_name
from monai_ext.ct_rate.labels import NAME
from monai_ext.data.problems import Problem
from monai_ext.errors import DataError
from monai_ext.io import read_csv

COLUMNS = ("RescaleSlope", "RescaleIntercept", "XYSpacing", "ZSpacing")
SCANNER = ("Manufacturer", "ManufacturerModelName")  # not in every table


@dataclass(frozen=True)
class Metadata:
    """Metadata of one volume.

    Args:
        rescale: slope and intercept; NaN where the table has none.
        spacing: voxel edges along Z, Y, X in mm; None where the table has none.
        manufacturer: of the scanner; empty where the table has none.
        scanner: its model; empty where the table has none.
    """

    rescale: tuple[float, float]
    spacing: tuple[float, float, float] | None
    manufacturer: str = ""
    scanner: str = ""


def read_metadata(path: str | Path) -> tuple[dict[str, Metadata], list[Problem]]:
    """Read a table with ``VolumeName``, `COLUMNS`, perhaps `SCANNER`, and any others.

    ``XYSpacing`` is text such as ``[0.7, 0.7]``.

    Args:
        path: the CSV.

    Returns:
        volume name → metadata, for the good rows; and the problems of the others.

    Raises:
        DataError: for a table that can't be read or lacks a column.
    """
    rows = read_csv(path, [NAME])
    missing = [column for column in COLUMNS if rows and column not in rows[0]]
    if missing or not rows:
        raise DataError(f"lacks the columns {missing}" if missing else "has no rows", path, "labels")
    found: dict[str, Metadata] = {}
    problems: list[Problem] = []
    repeated: set[str] = set()
    for row in rows:
        name = volume_name(row[NAME]) or row[NAME]
        try:
            rescale = _number(row, "RescaleSlope"), _number(row, "RescaleIntercept")
            entry = Metadata(rescale, _spacing(row), *(row.get(column, "") for column in SCANNER))
        except ValueError as error:
            problems.append(Problem(str(path), f"{name!r} has {error}", code="labels"))
            continue
        if name in found:
            repeated.add(name)
            problems.append(Problem(str(path), f"has more than one row of {name!r}; keep one", code="labels"))
        found[name] = entry
    return {name: entry for name, entry in found.items() if name not in repeated}, problems


def _number(row: dict[str, str], column: str) -> float:
    """A number; NaN for an empty cell."""
    try:
        return float(row[column] or "nan")
    except ValueError:
        raise ValueError(f"{row[column]!r} for {column}, expected a number") from None


def _spacing(row: dict[str, str]) -> tuple[float, float, float] | None:
    if not row["XYSpacing"] or not row["ZSpacing"]:
        return None
    # Rows first, as DICOM's PixelSpacing has it.
    pair = re.fullmatch(r"[\[(]\s*([^,\s]+)[,\s]+([^,\s]+)\s*[\])]", row["XYSpacing"])
    try:
        y, x = (float(edge) for edge in pair.groups()) if pair else (math.nan, math.nan)
    except ValueError:
        y = x = math.nan
    z = _number(row, "ZSpacing")
    if not all(math.isfinite(edge) and edge > 0 for edge in (z, y, x)):
        raise ValueError(
            f"XYSpacing {row['XYSpacing']!r} and ZSpacing {row['ZSpacing']!r}, expected mm such as '[0.7, 0.7]' and 1.5"
        )
    return z, y, x
