"""Training folders: their slices, the patient of each, and splits by patient."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_ext.data.patients import patient_of_case
from monai_ext.data.problems import Problem
from monai_ext.data.splits import grouped_stratified_folds
from monai_ext.data.walk import stem_of, suffix_of, walk, without_copies, without_data_files
from monai_ext.errors import ConfigError, DataError
from monai_ext.spine.dicom import read_dicom_header
from monai_ext.spine.dicom_seg import is_dicom_seg
from monai_ext.spine.series import VOLUME_SUFFIXES
from monai_ext.spine.slices import SLICE_SUFFIXES
from monai_ext.spine.unread import broken_links, unread

READ = (*SLICE_SUFFIXES, *VOLUME_SUFFIXES)


@dataclass(frozen=True)
class TrainingFiles:
    """The images below a folder.

    Args:
        folder: absolute.
        images: slices and volume files (also DICOM segmentations), and the folders of DICOM series, each once.
        problems: errors for files that can't be used, and notes on those that aren't.
    """

    folder: Path
    images: list[Path]
    problems: list[Problem]

    def case(self, path: Path) -> str:
        """Path below the folder, without the suffix of a file."""
        relative = path.relative_to(self.folder)
        stem = stem_of(path, (*READ, ".dcm"))
        return (relative if stem is None or path.is_dir() else relative.with_name(stem or "volume")).as_posix()


def training_files(folder: str | Path, repeatable: Sequence[str] = ()) -> TrainingFiles:
    """The slices and volumes below a folder, each once; and what is to be said about all other files.

    Args:
        folder: where to search.
        repeatable: see `monai_ext.data.walk.walk`.

    Raises:
        ConfigError: for DICOM files without the packages for DICOM.
        DataError: for a folder that doesn't exist or can't be listed.
    """
    root = Path(os.path.abspath(folder))
    found = walk(root, READ, repeatable)
    files = [file.path for file in found.files]
    images, problems, rest, series = [Path(path) for path in files], broken_links(found.problems), [], set()
    for path in without_data_files((file.path for file in found.others), files):
        try:
            if read_dicom_header(path):
                series.add(path.parent)
            elif is_dicom_seg(path):
                images.append(path)
            else:
                rest.append(path)
        except (DataError, OSError) as error:
            problems.append(Problem.of(error) if isinstance(error, DataError) else Problem(str(path), str(error)))
    volumes = [path for path in images if suffix_of(path, VOLUME_SUFFIXES)]
    problems += [*without_copies(volumes, VOLUME_SUFFIXES)[1], *unread(rest, found.hidden, root)]
    return TrainingFiles(root, [*images, *sorted(series)], problems)


def is_slice(path: str | Path) -> bool:
    """Whether a file is one slice (PNG, JPEG, TIFF), not a volume.

    Args:
        path: of the file, or of the folder of a DICOM series.
    """
    return suffix_of(path, SLICE_SUFFIXES) is not None


def patient_of(relative: Path) -> str:
    """The first folder of a path below its class (or ``images``); of a file there, its name up to the first "_".

    A time point at its end is no part of the patient, see `monai_ext.data.patients.patient_of_case`.
    """
    return patient_of_case(relative.parts[0] if len(relative.parts) > 1 else relative.stem.partition("_")[0])


def split_by_patient(
    items: Sequence[Mapping[str, Any]], fold: int = 1, num_folds: int = 5, seed: int = 420
) -> dict[str, list[dict[str, Any]]]:
    """``{"train": items, "val": items}`` of one fold, with about equal class fractions and no patient in both.

    Args:
        items: with ``patient``, and ``label`` where there are classes.
        fold: from 1 to ``num_folds``.
        num_folds: number of folds, at least 2.
        seed: of the folds, at least 0.

    Raises:
        ConfigError: for a fold out of range.
        DataError: when a class has fewer patients than folds.
    """
    if isinstance(fold, bool) or not isinstance(fold, int) or not 1 <= fold <= num_folds:
        raise ConfigError(f"split_by_patient: fold must be an integer from 1 to {num_folds}, got {fold!r}")
    groups = [item["patient"] for item in items]
    folds = grouped_stratified_folds(groups, [item.get("label", 0) for item in items], num_folds, seed)
    return {
        part: [dict(items[i]) for i in chosen] for part, chosen in zip(("train", "val"), folds[fold - 1], strict=True)
    }
