"""Who is the same patient: scans of one person at several times must never lie on both sides of a split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from monai_ext.errors import DataError

# Columns of a table that name the patient of a case, the first that is there.
PATIENT_COLUMNS = ("patient", "subject", "group")


def patient_column(rows: Iterable[Mapping[str, str]], path: str | Path) -> str | None:
    """The column of a table that names the patient of each row: "patient", "subject" or "group"; None without one.

    Args:
        rows: of the table, as `monai_ext.io.read_csv` returns them.
        path: of the table, for the error.

    Raises:
        DataError: for a row without a patient where others have one.
    """
    rows = list(rows)
    column = next((name for name in PATIENT_COLUMNS if rows and name in rows[0]), None)
    empty = [number for number, row in enumerate(rows, start=2) if column and not row[column]]
    if column is None or len(empty) == len(rows):
        return None
    if empty:
        raise DataError(f"row {empty[0]}, column {column!r} is empty; name the patient of every row, or of none", path)
    return column
