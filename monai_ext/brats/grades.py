"""Tables that tell the class of each case: our own CSV, and ``name_mapping.csv`` of BraTS 2019 and 2020."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from monai_ext.brats.names import CLASS_NAMES
from monai_ext.csv_text import columns_of
from monai_ext.data.patients import column_of_patients, patient_of_case
from monai_ext.errors import DataError
from monai_ext.io import read_csv

COLUMNS = ("patient_id", "class")
# name_mapping.csv has the id of each case in all years. An id of TCGA is the patient's own, one of BraTS 2017 to 2019
# tells the patient; that of 2020 is a running number.
GRADE = "Grade"
_YEARS = tuple(f"BraTS_{year}_subject_ID" for year in (2020, 2019, 2018, 2017))
_PEOPLE = ("TCGA_TCIA_subject_ID", *_YEARS[1:])
_MISSING = ("", "na", "n/a", "nan")


@dataclass(frozen=True)
class Grades:
    """Case → label, and case → patient where the table tells the patients."""

    path: Path
    labels: dict[str, int]
    patients: dict[str, str]


def read_grades(path: str | Path) -> Grades:
    """Read ``patient_id,class`` with perhaps ``patient``, ``subject`` or ``group``; or BraTS' ``name_mapping.csv``.

    Args:
        path: CSV. In ``name_mapping.csv`` the cases are those of the latest year.

    Raises:
        DataError: naming file and row (see `monai_ext.io.read_csv`); for a class other than HGG and LGG in any case.
    """
    path = Path(path)
    header = columns_of(path)
    year = next((name for name in _YEARS if name in header), None)
    mapping = COLUMNS[0] not in header and year is not None and GRADE in header
    key, value = (year or "", GRADE) if mapping else COLUMNS
    rows = read_csv(path, [key, value], unique=key)
    labels = {row[key]: _label(row[key], row[value], path) for row in rows}
    if column := column_of_patients(rows, path):
        return Grades(path, labels, {row[key]: row[column] for row in rows})
    people = {}
    for row in rows if mapping else []:
        known = [row[name] for name in _PEOPLE if row.get(name, "").lower() not in _MISSING]
        people[row[key]] = patient_of_case(known[0]) if known else patient_of_case(row[key])
    return Grades(path, labels, people)


def read_patients(path: Path) -> dict[str, str]:
    """Case → patient of a CSV with ``patient_id`` and a column for the patient, which may lack classes."""
    rows = read_csv(path, COLUMNS[:1], unique=COLUMNS[0])
    column = column_of_patients(rows, path)
    return {row[COLUMNS[0]]: row[column] for row in rows} if column else {}


def _label(case: str, name: str, path: Path) -> int:
    if name.upper() not in CLASS_NAMES:
        raise DataError(f"patient {case!r} has class {name!r}, expected {CLASS_NAMES}", path, "labels")
    return CLASS_NAMES.index(name.upper())
