"""Who is the same patient: scans of one person at several times must never lie on both sides of a split."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from monai_ext.data.problems import Problem
from monai_ext.errors import DataError

# Columns of a table that name the patient of a case, the first that is there.
PATIENT_COLUMNS = ("patient", "subject", "group")

_TIMES = "ses|session|visit|tp|timepoint|week|month|year|fu|followup|follow-up"
# The group is the patient, the rest the time point. A number alone is not enough: BraTS20_Training_001 and _002 are two
# people.
_SERIES = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(brats\d+_.+_.+)_\d+",  # BraTS 2017 to 2019: Brats18_<institution>_<patient>_<time point>
        r"(brats(?:-[a-z]+)+-\d{3,5})-\d{1,3}",  # BraTS 2023 and 2024: BraTS-GLI-<patient>-<time point>
        r"(sub-[a-z0-9]+)_.+",  # BIDS
        r"(tcga-[a-z0-9]{2}-[a-z0-9]{4})[^a-z0-9].*",  # barcodes of TCGA, with a date or sample behind
        r"(upenn-gbm-\d+)_\d+",
        rf"(.+?)[_-](?:(?:{_TIMES})[_-]?\d+d?(?:-\d+)?|baseline)",
    )
]
_NUMBERED = re.compile(r"(.*[a-z0-9])[_-](?:\d{1,2}|(?:19|20)\d{6}|(?:19|20)\d\d-\d\d-\d\d)", re.IGNORECASE)


def patient_of_case(case: str) -> str:
    """The id without its time point, for ids of known series and those that name a visit; else the id as it is.

    Known, in upper or lower case: BraTS 2017 to 2019 and 2023 to 2024, BIDS (``sub-01_ses-2``), TCGA, UPENN-GBM; and
    ids that end in a word for a time with a number (``P07_visit2``, ``P07-week-012``) or in ``baseline``.

    Args:
        case: id of a case.
    """
    match = next((found for series in _SERIES if (found := series.fullmatch(case))), None)
    return match.group(1) if match else case


def patients_of_cases(cases: Iterable[str]) -> dict[str, str]:
    """Case → `patient_of_case`; patients whose ids differ in upper and lower case only are one.

    Args:
        cases: ids of the cases, all of a dataset.
    """
    spelling: dict[str, str] = {}
    return {case: spelling.setdefault((name := patient_of_case(case)).casefold(), name) for case in sorted(cases)}


def column_of_patients(rows: Iterable[Mapping[str, str]], path: str | Path) -> str | None:
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
        message = f"row {empty[0]}, column {column!r} is empty; name the patient of every row, or of none"
        raise DataError(message, path, "labels")
    return column


def patient_problems(where: str | Path, patients: Mapping[str, str], step: str = "") -> list[Problem]:
    """What a check says about the grouping: a note on patients with several cases, a warning on ids that look alike.

    Args:
        where: the dataset.
        patients: case → its patient.
        step: how to tell who is who in this kind of dataset.
    """
    cases: dict[str, list[str]] = defaultdict(list)
    for case, patient in sorted(patients.items()):
        cases[patient].append(case)
    several = [found for found in cases.values() if len(found) > 1]
    alike = _alike([case for case, patient in patients.items() if case == patient])

    def finding(severity: str, groups: list[list[str]], begin: str, end: str, right: str) -> list[Problem]:
        if not groups:
            return []
        message = f"{begin}, such as {' and '.join(groups[0][:2])}, {end}"
        what_to_do = f"nothing, if {right}; else {step}" if step else ""
        return [Problem(str(where), message, severity, "patients", step=what_to_do)]

    of_one = f"{len(patients)} cases of {len(cases)} patients: those of one patient"
    like_times = f"{len(alike)} groups of ids look like time points of one patient"
    apart = "but each counts as a patient of its own: one person may be in training and validation"
    return [
        *finding("note", several, of_one, "stay on one side of every split", "that is right"),
        *finding("warning", alike, like_times, apart, "they are different people"),
    ]


def _alike(cases: list[str]) -> list[list[str]]:
    """Ids that differ in a last number or date only, unless so many do that it must be a running number."""
    stems = {case: match.group(1) for case in sorted(cases) if (match := _NUMBERED.fullmatch(case))}
    sizes = Counter(stems.values())
    if len(sizes) < 2 or len(stems) > 5 * len(sizes):
        return []
    return [[case for case in stems if stems[case] == stem] for stem, size in sizes.items() if size > 1]
