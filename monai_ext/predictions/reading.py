"""Reading prediction files back, with errors that name what is damaged."""

from __future__ import annotations

from pathlib import Path

from monai_ext.errors import DataError
from monai_ext.io import read_csv


def filled_rows(path: Path, columns: list[str]) -> list[dict[str, str]]:
    """The rows of a CSV file with these columns; see `monai_ext.io.read_csv`.

    Raises:
        DataError: also for a file that isn't there, or has no rows.
    """
    if not path.is_file():
        raise DataError("not there, so there are no curves and no list of mistakes")
    rows = read_csv(path, columns)
    if not rows:
        raise DataError("has no rows", path)
    return rows


def number(row: dict[str, str], column: str, path: Path) -> float:
    """The number in a cell.

    Raises:
        DataError: naming the case and the column of what is none.
    """
    try:
        return float(row[column])
    except ValueError:
        raise DataError(f"case {row['case']!r}, column {column!r}: {row[column]!r} is not a number", path) from None
