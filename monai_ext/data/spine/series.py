"""All series of a folder: DICOM, NIfTI, or slices as PNG, JPEG or TIFF."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from monai_ext.data.checks import Problem
from monai_ext.data.spine.dicom import DicomSlice, is_dicom, read_dicom, read_header, sort_slices
from monai_ext.data.spine.image import SeriesImage
from monai_ext.data.spine.nifti import NIFTI_SUFFIXES, read_nifti
from monai_ext.data.spine.slices import SLICE_SUFFIXES, read_slices
from monai_ext.data.tiff_slices import natural_key
from monai_ext.data.volumes import volume_stem
from monai_ext.errors import DataError


@dataclass(frozen=True)
class Series:
    """One series of a patient.

    Attributes:
        patient: from the folder; of DICOM files without one a number ("patient_001"), never what the header says.
        series: from the folder or the file; unique within the patient.
        kind: ``"dicom"``, ``"nifti"`` or ``"slices"``.
        files: absolute paths in the order of the slices; one of NIfTI.
    """

    patient: str
    series: str
    kind: str
    files: tuple[Path, ...]

    @property
    def name(self) -> str:
        """``<patient>/<series>``, unique in a folder."""
        return f"{self.patient}/{self.series}"

    def read(self) -> SeriesImage:
        """Voxels and geometry.

        Raises:
            DataError: naming a file that can't be read or doesn't fit the others.
        """
        if self.kind == "dicom":
            return read_dicom(self.files)
        return read_nifti(self.files[0]) if self.kind == "nifti" else read_slices(self.files)


def find_series(folder: str | Path) -> tuple[list[Series], list[Problem]]:
    """All series below ``folder`` in natural order of their names, and what is wrong with the others.

    Layouts: ``<patient>/<series>/...``, ``<patient>/...`` or everything flat. DICOM files are grouped by
    SeriesInstanceUID, whatever they are called and wherever they lie in the patient's folder; each NIfTI file is a
    series; so are the PNG, JPEG and TIFF files of one folder (flat: those that differ in the number at their end only).
    Only headers of DICOM files are opened.

    Raises:
        DataError: when there is no such folder.
    """
    root = Path(os.path.abspath(folder))
    if not root.is_dir():
        raise DataError("is not a folder; give one with DICOM series, NIfTI volumes or slices", folder)
    dicom: dict[tuple[str, str, str], list[DicomSlice]] = defaultdict(list)
    slices: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    volumes: dict[Path, list[Path]] = defaultdict(list)
    found: list[Series] = []
    problems: list[Problem] = []
    for path in _files(root):
        parts = path.relative_to(root).parts
        if path.name.endswith(NIFTI_SUFFIXES):
            volumes[path.parent].append(path)
        elif path.suffix.lower() in SLICE_SUFFIXES:
            slices[path.parent, "" if len(parts) > 1 else path.stem.rstrip("0123456789").rstrip("_- .")].append(path)
        elif is_dicom(path):
            try:
                header = read_header(path)
            except DataError as error:
                problems.append(Problem.of(error, path))
                continue
            if header is not None:
                dicom[parts[0] if len(parts) > 1 else "", header.patient_id, header.series_uid].append(header)
    for place, files in volumes.items():
        folders = place.relative_to(root).parts
        for path in files:
            stem = volume_stem(path) or "volume"
            name = folders[1:] if len(folders) > 1 and len(files) == 1 else (*folders[1:], stem)
            found.append(Series(folders[0] if folders else stem, _joined(name), "nifti", (path,)))
    for (place, prefix), files in slices.items():
        folders = place.relative_to(root).parts or (prefix or "slices",)
        found.append(Series(folders[0], _joined(folders[1:] or folders), "slices", tuple(files)))
    found += _dicom_series(root, dicom, problems)
    return sorted(_numbered(found), key=lambda one: natural_key(one.name)), problems


def _dicom_series(
    root: Path, groups: dict[tuple[str, str, str], list[DicomSlice]], problems: list[Problem]
) -> list[Series]:
    found = []
    numbers: dict[str, int] = {}
    for (patient, patient_id, _), slices in groups.items():
        parts = slices[0].path.relative_to(root).parts
        if not patient:
            patient = f"patient_{numbers.setdefault(patient_id, len(numbers) + 1):03d}"
            # A folder of that name is somebody else.
            patient += "_flat" if (root / patient).exists() else ""
        name = _joined(parts[1:-1]) or f"series_{slices[0].series_number:03d}"
        try:
            files = tuple(one.path for one in sort_slices(slices))
        except DataError as error:
            problems.append(Problem.of(error))
            continue
        found.append(Series(patient, name, "dicom", files))
    return found


def _files(root: Path) -> list[Path]:
    """All files below, but hidden ones, in natural order."""
    found = []
    for place, folders, names in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted(found, key=lambda path: [natural_key(part) for part in path.relative_to(root).parts])


def _joined(parts: Sequence[str]) -> str:
    return "_".join(parts)


def _numbered(found: Sequence[Series]) -> list[Series]:
    """The series of one patient that would have the same name get a number behind it."""
    counts = Counter(one.name for one in found)
    taken = set(counts)
    result = []
    for one in found:
        if counts[one.name] > 1:
            number = next(n for n in range(1, len(found) + 2) if f"{one.name}_{n}" not in taken)
            taken.add(f"{one.name}_{number}")
            one = replace(one, series=f"{one.series}_{number}")
        result.append(one)
    return result
