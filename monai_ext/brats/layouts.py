"""Layouts of labelled data as they are published: class folders of BraTS 2018 and 2019, a CSV beside all others."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path

from monai_ext.brats.grades import COLUMNS, GRADE, Grades, read_grades, read_patients
from monai_ext.brats.names import CLASS_NAMES, Volumes
from monai_ext.csv_text import columns_of
from monai_ext.data.patients import PATIENT_COLUMNS, patients_of_cases
from monai_ext.data.volumes import volume_stem
from monai_ext.data.walk import entries
from monai_ext.errors import DataError
from monai_ext.io import read_csv

HOW_TO_GET = (
    "to get BraTS 2018, register for the challenge at https://www.med.upenn.edu/sbia/brats2018/registration.html "
    "(CBICA); to try things out, make demo data with `python -m monai_ext demo-data brats_resnet50 --output DIR` and "
    "pass `--dataset_dir DIR`"
)
# MICCAI_BraTS_2018_Data_Training, MICCAI_BraTS2020_TrainingData, ASNR-MICCAI-BraTS2023-GLI-Challenge-TrainingData …
_PUBLISHED = re.compile(r"(?=.*brats).*(training_?data|data_?training).*", re.IGNORECASE)


class NoClasses(DataError):
    """Data that say nothing of classes, which can be predicted, not trained on."""


@dataclass(frozen=True)
class Subject:
    """A labelled case; ``volumes`` are those of its folder, which may hold other cases, too."""

    case: str
    label: int
    patient: str
    volumes: Volumes


@dataclass(frozen=True)
class Layout:
    """The subjects of a dataset, in no order; the folders of volumes beside them whose class nothing tells.

    ``table`` is the CSV with the classes, None for class folders.
    """

    root: Path
    subjects: list[Subject]
    table: Path | None
    unlisted: list[Path]


def volumes_in(folder: Path) -> Volumes:
    """The volumes of a subject's folder: those in it, and in BIDS' ``anat`` and ``ses-*/anat`` below it."""
    return Volumes(folder, [path for place in _places(folder) for path in entries(place) if path.is_file()])


def data_root(dataset_dir: str | Path) -> Path:
    """The folder of the subjects: ``dataset_dir``, or the training data in it under the name of their publication.

    Raises:
        DataError: for a missing folder, saying how to get the data; for several publications.
    """
    root = Path(dataset_dir)
    if not root.is_dir():
        raise DataError(f"is not a folder; {HOW_TO_GET}", root)
    for _ in range(3):  # unpacked archives nest the name twice
        found = [entry for entry in entries(root) if entry.is_dir() and _PUBLISHED.fullmatch(entry.name)]
        if len(found) > 1:
            names = " and ".join(entry.name for entry in found)
            raise DataError(f"holds {names}; pass the one to use as --dataset_dir", root)
        if not found:
            break
        root = found[0]
    return root


def find_layout(dataset_dir: str | Path) -> Layout:
    """The labelled subjects of a dataset in one of the published layouts; opens no image.

    Raises:
        NoClasses: when nothing is found, saying how to get the data; for data without classes, saying how to give them.
        DataError: for class folders without subjects, several tables, an unknown class.
    """
    root = data_root(dataset_dir)
    tables = [path for folder in dict.fromkeys((root, Path(dataset_dir))) for path in _tables(folder)]
    folders = [entry for entry in entries(root) if entry.is_dir() and entry.name.upper() in CLASS_NAMES]
    found = list(_in_class_folders(folders))
    if found:
        told: dict[str, str] = {}
        for path in tables:
            header = {column for row in read_csv(path, [])[:1] for column in row}  # an unreadable one may tell patients
            if COLUMNS[0] in header and header & set(PATIENT_COLUMNS):
                told |= read_patients(path)
        return Layout(root, _with_patients(found, told), None, _with_volumes(root, folders))
    if folders:
        names = " and ".join(folder.name for folder in folders)
        raise DataError(f"has {names}, but no folder of a subject in it: <class>/<id>/<id>_flair.nii.gz", root)
    table = _class_table(root, tables)
    listed, unlisted = _in_table(root, table)
    return Layout(root, _with_patients(listed, table.patients), table.path, unlisted)


def is_class_table(path: Path) -> bool:
    """Whether a file is a CSV of classes, patients or folds, as a labelled dataset has them beside its volumes."""
    header = columns_of(path) if path.suffix.lower() == ".csv" else set()
    return _tells_classes(header) or COLUMNS[0] in header


def _places(folder: Path) -> list[Path]:
    below = [entry for entry in entries(folder) if entry.is_dir()]
    sessions = [entry for entry in below if entry.name.lower().startswith("ses-")]
    return [folder, *(place for place in below if place.name == "anat"), *map(_anatomy, sessions)]


def _anatomy(session: Path) -> Path:
    return session / "anat" if (session / "anat").is_dir() else session


def _in_class_folders(folders: list[Path]) -> Iterator[tuple[str, int, Volumes]]:
    for folder in folders:
        label = CLASS_NAMES.index(folder.name.upper())
        for entry in entries(folder):
            if entry.is_dir():
                volumes = volumes_in(entry)
                sessions = [case for case in sorted(volumes.named) if case.startswith(f"{entry.name}_ses-")]
                yield from ((case, label, volumes) for case in sessions or [entry.name])


def _in_table(root: Path, table: Grades) -> tuple[list[tuple[str, int, Volumes]], list[Path]]:
    beside: Volumes | None = None
    listed: list[tuple[str, int, Volumes]] = []
    folders: dict[Path, Volumes] = {}
    for case, label in table.labels.items():
        if case in (".", "..") or "/" in case or "\\" in case:
            raise DataError(f"patient_id {case!r} is not a plain name", table.path)
        names = (case, case.partition("_ses-")[0])  # BIDS: the sessions of a subject are below its folder
        folder = next((root / name for name in names if (root / name).is_dir()), None)
        if folder is None:
            beside = beside or Volumes(root, [path for path in entries(root) if path.is_file()])
        elif folder not in folders:
            folders[folder] = volumes_in(folder)
        listed.append((case, label, folders[folder] if folder else beside or Volumes(root, [])))
    return listed, _with_volumes(root, folders)


def _with_volumes(root: Path, known: Container[Path]) -> list[Path]:
    others = [entry for entry in entries(root) if entry.is_dir() and entry not in known]
    return [folder for folder in others if any(volumes_in(place).named for place in _folder_and_below(folder))]


def _folder_and_below(folder: Path) -> list[Path]:
    """With what lies below, as in the folder of a class whose name is misspelt."""
    return [folder, *(entry for entry in entries(folder) if entry.is_dir())]


def _with_patients(found: list[tuple[str, int, Volumes]], told: dict[str, str]) -> list[Subject]:
    patients = {**patients_of_cases({case for case, _, _ in found}), **told}
    return [Subject(case, label, patients[case], volumes) for case, label, volumes in found]


def _tables(folder: Path) -> list[Path]:
    return [path for path in entries(folder) if path.suffix.lower() == ".csv" and path.is_file()]


def _class_table(root: Path, tables: list[Path]) -> Grades:
    fitting = [path for path in tables if _tells_classes(columns_of(path))]
    if len(fitting) > 1:
        names = ", ".join(path.name for path in fitting)
        raise DataError(f"has {len(fitting)} CSV files with classes ({names}) where one is needed; remove others", root)
    if fitting:
        return read_grades(fitting[0])
    example = _example(root)
    if example is None and not tables:
        raise NoClasses(f"holds no subjects; {HOW_TO_GET}", root)
    for path in tables:
        try:
            rows = read_csv(path, [])
            if rows and set(COLUMNS) & set(rows[0]):
                read_csv(path, COLUMNS)
        except DataError as error:
            raise NoClasses(str(error).removeprefix(f"{path}: "), path) from error
    raise NoClasses(
        "says no grades: it has no folder HGG or LGG, and no CSV with classes (BraTS 2021 and later are published "
        "without any); add a CSV with the columns patient_id,class and a row for each subject, such as "
        f"{example or '<id>'},HGG",
        root,
    )


def _tells_classes(header: set[str]) -> bool:
    return set(COLUMNS) <= header or (GRADE in header and any(name.endswith("_subject_ID") for name in header))


def _example(root: Path) -> str | None:
    """Id of a case in the folder or directly below; None when there is no volume."""
    for folder in (root, *(entry for entry in entries(root) if entry.is_dir())):
        if any(volume_stem(path) for path in volumes_in(folder).files):
            return next(iter(sorted(volumes_in(folder).named)))
    return None
