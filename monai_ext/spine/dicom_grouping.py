"""Which DICOM slices are one series: by patient and SeriesInstanceUID, and where an export gave each slice its own."""

from __future__ import annotations

import filecmp
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from monai_ext.data.problems import Problem
from monai_ext.errors import DataError
from monai_ext.spine.dicom_slices import DicomSlice, sort_slices

# Two slices are always as far apart as each other; of three, evenness says something.
_FEWEST = 3


def without_repeats(slices: Iterable[DicomSlice]) -> tuple[list[DicomSlice], list[Problem]]:
    """Slices of which no file is a byte-for-byte copy of another of the same SOPInstanceUID, and a note for each such.

    Args:
        slices: of one patient's folder.
    """
    first: dict[tuple[str, int | None], DicomSlice] = {}
    copies: dict[Path, Path] = {}
    kept = []
    for one in slices:
        same = first.setdefault((one.instance_uid, one.frame), one)
        if one.path not in copies and same is not one and filecmp.cmp(one.path, same.path, shallow=False):
            copies[one.path] = same.path
        if one.path not in copies:
            kept.append(one)
    notes = [
        Problem(str(path), f"is a copy of {other.name}, which is read", "note", "copies", (str(path),))
        for path, other in copies.items()
    ]
    return kept, notes


def group_slices(slices: Sequence[DicomSlice]) -> tuple[list[list[DicomSlice]], list[Problem]]:
    """The slices of each series, and what is odd about them.

    A series of several volumes (echoes, types of the image) is as many.
    Some exports and anonymisers give each slice a SeriesInstanceUID or a PatientID of its own. Series of one slice each
    that share the other one, SeriesNumber, shape and direction are joined if they are an even stack, with a note;
    if they aren't, or share neither, that is a warning.

    Args:
        slices: of one patient's folder.
    """
    groups: dict[tuple[str, str], list[DicomSlice]] = defaultdict(list)
    for one in slices:
        groups[one.patient_id, one.series_uid].append(one)
    alike: dict[tuple[object, ...], list[DicomSlice]] = defaultdict(list)
    found = []
    for members in groups.values():
        if len(members) == 1:
            alike[_likeness(members[0])].append(members[0])
        else:
            found.append(members)
    problems = _of_several_patients(found)
    found = [volume for members in found for volume in _volumes(members)]
    for members in alike.values():
        joined, odd = _joined(members)
        found += joined
        problems += odd
    return found, problems


def _volumes(members: list[DicomSlice]) -> list[list[DicomSlice]]:
    volumes: dict[tuple[str, str], list[DicomSlice]] = defaultdict(list)
    for one in members:
        volumes[one.volume].append(one)
    parts = list(volumes.values())
    several = len(parts) > 1 and not _is_even(members) and all(map(_is_even, parts))
    return parts if several else [members]


def _is_even(members: Sequence[DicomSlice]) -> bool:
    try:
        sort_slices(members)
    except DataError:
        return False
    return True


def _likeness(one: DicomSlice) -> tuple[object, ...]:
    numbers = (*one.orientation, *one.spacing)
    return one.path.parent, one.series_number, one.shape, one.no_volume, tuple(round(number, 2) for number in numbers)


def _joined(members: list[DicomSlice]) -> tuple[list[list[DicomSlice]], list[Problem]]:
    apart = [[one] for one in members]
    if len(members) < _FEWEST:
        return apart, []
    own = {
        "SeriesInstanceUID": {one.series_uid for one in members},
        "PatientID": {one.patient_id for one in members},
    }
    names = [name for name, values in own.items() if len(values) > 1]
    fault = "nothing says that they belong together" if len(names) > 1 else ""
    try:
        sort_slices(members)
    except DataError as error:
        fault = f"{Path(error.path or '').name} {Problem.of(error).message}"
    what = f"{len(members)} files of one slice each, alike in SeriesNumber, size and direction, have their own"
    outcome = f"aren't joined: {fault}" if fault else "are read as one series, as their even distances suggest"
    problem = Problem(
        str(members[0].path.parent),
        f"{what} {' and '.join(names)}; they {outcome}",
        "warning" if fault else "note",
        "joined",
        tuple(str(one.path) for one in members),
    )
    return apart if fault else [members], [problem]


def _of_several_patients(groups: Sequence[Sequence[DicomSlice]]) -> list[Problem]:
    patients: dict[str, list[Sequence[DicomSlice]]] = defaultdict(list)
    for members in groups:
        patients[members[0].series_uid].append(members)
    return [
        Problem(
            str(found[0][0].path.parent),
            f"files of one SeriesInstanceUID have {len(found)} PatientIDs; they are read as {len(found)} series",
            "warning",
            "joined",
            tuple(dict.fromkeys(str(one.path) for members in found for one in members)),
        )
        for found in patients.values()
        if len(found) > 1
    ]
