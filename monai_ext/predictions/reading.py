"""Reading prediction files, with errors that name the damaged value."""

from __future__ import annotations

from pathlib import Path

from monai_ext.errors import DataError
from monai_ext.io import read_csv
from monai_ext.metrics.intervals import PATIENT


def filled_rows(path: Path, columns: list[str]) -> list[dict[str, str]]:
    """The rows of a CSV file with these columns; see `monai_ext.io.read_csv`.

    Args:
        path: CSV.
        columns: names that its header must have.

    Raises:
        DataError: for a file that is missing, can't be read, lacks a column, or has no rows.
    """
    if not path.is_file():
        raise DataError("not there, so there are no curves and no list of mistakes")
    rows = read_csv(path, columns)
    if not rows:
        raise DataError("has no rows", path)
    return rows


def number(row: dict[str, str], column: str, path: Path) -> float:
    """The number in a cell.

    Args:
        row: with ``case`` and the column.
        column: name of the column.
        path: of the file, for the error message.

    Raises:
        DataError: naming case and column, for a value that is no number.
    """
    try:
        return float(row[column])
    except ValueError:
        raise DataError(f"case {row['case']!r}, column {column!r}: {row[column]!r} is not a number", path) from None


def patients(rows: list[dict[str, str]]) -> dict[str, list[str]]:
    """The column ``patient`` as columns of a result; empty where the file has none."""
    return {PATIENT: [row[PATIENT] for row in rows]} if PATIENT in rows[0] else {}
