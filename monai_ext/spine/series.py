"""All series of a folder: DICOM, NIfTI, or slices as PNG, JPEG or TIFF."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from monai_ext.data.left_out import not_used
from monai_ext.data.problems import Problem
from monai_ext.data.volumes import SUFFIXES, volume_stem
from monai_ext.data.walk import RealFile, natural_key, suffix_of, walk, without_copies, without_data_files
from monai_ext.errors import DataError
from monai_ext.spine.dicom import read_dicom_header, read_dicom_series
from monai_ext.spine.dicom_grouping import group_slices, without_repeats
from monai_ext.spine.dicom_slices import DicomSlice, sort_slices
from monai_ext.spine.image import SeriesImage
from monai_ext.spine.mask_names import is_mask
from monai_ext.spine.naming import folder_name
from monai_ext.spine.nifti import read_volume_series
from monai_ext.spine.slices import SLICE_SUFFIXES, read_slice_series
from monai_ext.spine.unread import broken_links, unread

VOLUME_SUFFIXES = tuple(suffix for suffix in SUFFIXES if suffix != ".npy")


@dataclass(frozen=True)
class Series:
    """One series of a patient.

    Args:
        patient: name of the folder; for DICOM files without one, or with several patients in one, a number
            ("patient_001"), never the name or id of the header.
        series: name of the folder or the file; unique within the patient. Long names are cut (`folder_name`).
        kind: ``"dicom"``, ``"nifti"`` (or another volume file) or ``"slices"``.
        files: absolute paths in the order of the slices; a volume file, followed by that with its voxels where it is a
            header only.
        volume: of a DICOM series, which volume of its files (one echo, one type of the image); None for all slices.
    """

    patient: str
    series: str
    kind: str
    files: tuple[Path, ...]
    volume: tuple[str, str] | None = None

    @property
    def name(self) -> str:
        """``<patient>/<series>``, unique in a folder."""
        return f"{self.patient}/{self.series}"

    def read(self) -> SeriesImage:
        """Voxels and geometry.

        Raises:
            ConfigError: for DICOM without its packages.
            DataError: naming a file that can't be read or doesn't fit the others.
        """
        if self.kind == "dicom":
            return read_dicom_series(self.files, self.volume)
        return read_volume_series(self.files[0]) if self.kind == "nifti" else read_slice_series(self.files)


def find_series(folder: str | Path) -> tuple[list[Series], list[Problem]]:
    """All series below ``folder`` in natural order of their names, the problems of the others, and notes on files that
    aren't used: each file is part of a series, or of a problem.

    DICOM files are grouped by SeriesInstanceUID, whatever their names and sub-folders; each volume file (NIfTI, NRRD,
    MetaImage, FreeSurfer) is a series; the PNG, JPEG and TIFF files of one folder are a series (in a flat layout those
    whose names differ in the last number only). Of DICOM files only the headers are read, once.

    Args:
        folder: with ``<patient>/<series>/...``, ``<patient>/...`` or all files flat.

    Raises:
        ConfigError: for DICOM files without the packages for DICOM.
        DataError: when there is no such folder.
    """
    root = Path(os.path.abspath(folder))
    dicom: list[DicomSlice] = []
    below = walk(root, (*VOLUME_SUFFIXES, *SLICE_SUFFIXES), repeatable=SLICE_SUFFIXES)
    derived, files = _parted(below.files, root)
    more, unknown = _parted(below.others, root)
    others = [Path(path) for path in unknown]
    problems, no_image = broken_links(below.problems), []
    single = without_data_files(others, files)
    for path in single:
        try:
            headers = read_dicom_header(path)
        except DataError as error:
            problems.append(Problem.of(error, path))
            continue
        dicom += headers
        if not headers:
            no_image.append(path)
    volumes, copies = without_copies((one for one in files if suffix_of(one, VOLUME_SUFFIXES)), VOLUME_SUFFIXES)
    slices = [Path(one) for one in files if suffix_of(one, SLICE_SUFFIXES)]
    problems += [*copies, *unread(no_image, below.hidden, root)]
    problems += not_used([*derived, *more], lambda _: "derived from series (BIDS), none itself", root)
    names = {os.path.join(os.path.dirname(path), volume_stem(path) or ""): path for path in volumes}
    masks = [path for name, path in names.items() if is_mask(name, names)]
    problems += not_used(masks, lambda _: "masks by their names, of the images beside them", root)
    volumes = [path for path in volumes if path not in masks]
    voxels: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    for path in sorted({*others} - {*single}):
        voxels[path.parent, _begin(path)].append(path)
    found = [
        *_nifti_series(root, list(map(Path, volumes)), voxels),
        *_slice_series(root, slices, problems),
        *_dicom_series(root, dicom, problems),
    ]
    found = [replace(one, patient=folder_name(one.patient), series=folder_name(one.series)) for one in found]
    return sorted(_numbered(found), key=lambda one: natural_key(one.name)), problems


def _parted(files: Sequence[RealFile], root: Path) -> tuple[list[str], list[str]]:
    """Paths in the folder that BIDS keeps for masks and other results, and all others."""
    inside = f"{root / 'derivatives'}{os.sep}"
    paths = [file.path for file in files]
    return [path for path in paths if path.startswith(inside)], [path for path in paths if not path.startswith(inside)]


def _begin(path: Path) -> str:
    return path.name.partition(".")[0]


def _nifti_series(root: Path, volumes: Sequence[Path], voxels: Mapping[tuple[Path, str], list[Path]]) -> list[Series]:
    """A volume alone in the folder of a series has the name of the folder, others have the names of their files."""
    counts = Counter(path.parent for path in volumes)
    found = []
    for path in volumes:
        folders = path.relative_to(root).parts[:-1]
        stem = volume_stem(path) or "volume"
        name = folders[1:] if len(folders) > 1 and counts[path.parent] == 1 else (*folders[1:], stem)
        both = (path, *voxels.get((path.parent, _begin(path)), ()))
        found.append(Series(folders[0] if folders else stem, _joined(name), "nifti", both))
    return found


def _slice_series(root: Path, files: Sequence[Path], problems: list[Problem]) -> list[Series]:
    groups: dict[tuple[Path, tuple[str, ...]], list[Path]] = defaultdict(list)
    for path in files:
        prefix = path.stem.rstrip("0123456789").rstrip("_- .") or "slices"
        groups[path.parent, path.relative_to(root).parts[:-1] or (prefix,)].append(path)
    found = []
    for (_, parts), members in groups.items():
        single, copies = without_copies(members, SLICE_SUFFIXES)
        # without the slice that is there twice, the others would move together
        problems += [replace(one, files=(*one.files, *single)) for one in copies]
        if not copies:
            found.append(Series(parts[0], _joined(parts[1:] or parts), "slices", tuple(members)))
    return found


def _dicom_series(root: Path, slices: Sequence[DicomSlice], problems: list[Problem]) -> list[Series]:
    folders: dict[str, list[DicomSlice]] = defaultdict(list)
    for one in slices:
        parts = one.path.relative_to(root).parts
        folders[parts[0] if len(parts) > 1 else ""].append(one)
    found = []
    for folder, below in folders.items():
        kept, copies = without_repeats(below)
        groups, odd = group_slices(kept)
        problems += [*copies, *odd]
        patients = list(dict.fromkeys(members[0].patient_id for members in groups))
        for members in groups:
            patient = folder
            if not folder or len(patients) > 1:
                patient = f"{folder or 'patient'}_{patients.index(members[0].patient_id) + 1:03d}"
                # A folder of that name is another patient.
                patient += "_flat" if (root / patient).exists() else ""
            name = _joined(members[0].path.relative_to(root).parts[1:-1]) or f"series_{members[0].series_number:03d}"
            files = tuple(dict.fromkeys(one.path for one in members))
            try:
                files = tuple(dict.fromkeys(one.path for one in sort_slices(members)))
            except DataError as error:
                problems.append(replace(Problem.of(error), files=tuple(map(str, files))))
                continue
            volumes = {one.volume for one in members}
            found.append(Series(patient, name, "dicom", files, volumes.pop() if len(volumes) == 1 else None))
    return found


def _joined(parts: Sequence[str]) -> str:
    return "_".join(parts)


def _numbered(found: Sequence[Series]) -> list[Series]:
    """Append a number to series of one patient that would have the same name."""
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
