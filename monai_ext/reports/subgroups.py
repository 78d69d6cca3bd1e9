"""Metrics of subgroups of the cases, by columns of a table about them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from monai_ext.errors import ConfigError, DataError
from monai_ext.io import finite, read_csv, write_json
from monai_ext.metrics.intervals import interval_entries
from monai_ext.metrics.rows import intervals_of, part_of_result, rows_of
from monai_ext.reports.paired import Judged, read_judged
from monai_ext.reports.subgroup_tables import FILE

UNKNOWN = "not in the table"
# More values than this make no subgroups; numbers are cut at their quartiles instead.
_MOST = 12


def write_subgroups(folder: str | Path, columns: Sequence[str], case_table: str | Path) -> Path:
    """Write ``subgroups.json`` into the folder of a run or a cross-validation; its next report shows it.

    Args:
        folder: of the run or the cross-validation.
        columns: of the table, such as ``["scanner", "sex"]``.
        case_table: CSV with a row for each case or each patient, whose names stand in any column.

    Returns:
        Path of the file.

    Raises:
        ConfigError: for an unknown column, one with too many values, or predictions without independent cases.
        DataError: for a table that can't be read or has no row of these cases, or predictions that can't be read.
    """
    judged = read_judged(folder)
    names = rows_of(judged.result, judged.unit).names
    found = _rows_of(judged, names, Path(case_table))
    groups = {column: _groups(column, [row.get(column, UNKNOWN) for row in found]) for column in columns}
    content = {column: {value: _metrics(judged, rows) for value, rows in by.items()} for column, by in groups.items()}
    return write_json(Path(folder) / FILE, finite({"case_table": str(case_table), "subgroups": content}))


def _rows_of(judged: Judged, names: Sequence[str], path: Path) -> list[dict[str, str]]:
    """The table's row of each case, by its name or that of its patient; empty where there is none."""
    table = read_csv(path, [])
    patients = getattr(judged.result, "columns", {}).get("patient", names)
    best: tuple[int, list[dict[str, str]]] = (0, [])
    for column in table[0] if table else ():
        rows = {row[column].removesuffix(".gz").removesuffix(".nii"): row for row in table}
        found = [rows.get(name) or rows.get(str(patient)) or {} for name, patient in zip(names, patients, strict=True)]
        best = max(best, (sum(map(bool, found)), found), key=lambda each: each[0])
    if not best[0]:
        raise DataError(f"no column has the names of the cases, such as {names[0]!r}, or of their patients", path)
    return [{name: value or UNKNOWN for name, value in row.items()} for row in best[1]]


def _groups(column: str, values: Sequence[str]) -> dict[str, list[int]]:
    """Value → numbers of the rows, sorted; numbers of many values by quartile."""
    known = sorted({value for value in values if value != UNKNOWN})
    if not known:
        raise ConfigError(f"--subgroups {column}: the case table has no such column, or no value in it")
    named = list(values)
    if len(known) > _MOST:
        try:
            numbers = np.array([np.nan if value == UNKNOWN else float(value) for value in values])
        except ValueError:
            raise ConfigError(f"--subgroups {column}: has {len(known)} values, too many to be subgroups") from None
        edges = np.nanquantile(numbers, [0, 0.25, 0.5, 0.75, 1])
        known = [f"{low:g} to {high:g}" for low, high in pairwise(edges)]
        quarter = np.searchsorted(edges[1:-1], numbers, side="left")
        named = [UNKNOWN if np.isnan(n) else known[q] for n, q in zip(numbers, quarter, strict=True)]
    groups = {value: [row for row, found in enumerate(named) if found == value] for value in [*known, UNKNOWN]}
    return {value: rows for value, rows in groups.items() if rows}


def _metrics(judged: Judged, rows: Sequence[int]) -> dict[str, Any]:
    result = part_of_result(judged.result, rows)
    units = rows_of(result, judged.unit).units
    intervals = {name: each for name, each in intervals_of(result, judged.unit).items() if "/" not in name}
    metrics = {name: value for name, value in result.metrics.items() if not name.endswith(("_slices", "loss"))}
    return {"n": f"{units.total} {units.name}", "metrics": metrics, **interval_entries(intervals)}
