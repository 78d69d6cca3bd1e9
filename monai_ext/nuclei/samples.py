"""Nuclei on disk: one folder per sample, and a CSV with the class of each."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from monai_ext.csv_text import columns_of
from monai_ext.data.left_out import not_used
from monai_ext.data.patients import column_of_patients
from monai_ext.data.problems import Problem
from monai_ext.data.walk import entries
from monai_ext.errors import DataError
from monai_ext.io import read_csv

COLUMNS = ("sample_id", "class_id", "class_name")
HOW_TO_GET = (
    "expected <sample id>/raw/*.tif, one folder per nucleus, and a CSV with sample_id,class_id,class_name; to try "
    "things out, make demo data with `python -m monai_ext demo-data nuclei_vgg3d --output DIR` and pass "
    "`--dataset_dir DIR`"
)


@dataclass(frozen=True)
class SampleFolder:
    """A nucleus on disk: ``case`` is the folder's name; class and patient are None when unknown."""

    case: str
    folder: Path
    class_id: int | None = None
    class_name: str | None = None
    patient: str | None = None


@dataclass(frozen=True)
class ClassTable:
    """The class CSV: ``sample_id`` → (class_id, class_name), → patient where a column names it, and number →
    ``sample_id`` for those that are numbers."""

    path: Path
    classes: Mapping[str, tuple[int, str]]
    numbers: Mapping[int, str]
    patients: Mapping[str, str] = field(default_factory=dict)

    def sample_id(self, case: str) -> str | None:
        """The id in the table that means the folder ``case``: the same text, else the same number (1 and 0001)."""
        if case in self.classes:
            return case
        number = _number(case)
        return self.numbers.get(number) if number is not None else None


def find_samples(
    dataset_dir: str | Path, table: ClassTable | None, labels_required: bool = True
) -> tuple[list[SampleFolder], list[Problem]]:
    """All samples in natural order of their ids, and the problems of the others and notes on other files; opens no
    image.

    A sample is a folder that has a folder ``raw``, is listed in the table, or has a number for a name.

    Args:
        dataset_dir: folder of the samples, or one sample itself.
        table: the class CSV; None leaves all classes unknown.
        labels_required: whether a sample without a class, or a row without a folder, is a problem.

    Raises:
        DataError: when there is no sample at all, saying what was expected.
    """
    root = Path(os.path.abspath(dataset_dir))
    if not root.is_dir():
        raise DataError(f"is not a folder; {HOW_TO_GET}", dataset_dir)
    single = (root / "raw").is_dir()
    samples, problems, others, matched = [], [], [], set()
    for folder in [root] if single else entries(root):
        listed = table.sample_id(folder.name) if table is not None else None
        if not folder.is_dir() or not ((folder / "raw").is_dir() or listed or folder.name.isdigit()):
            others.append(folder)
            continue
        matched.add(listed)
        if table is not None and listed is not None:
            samples.append(SampleFolder(folder.name, folder, *table.classes[listed], table.patients.get(listed)))
        elif labels_required and table is not None:
            message = f"has no row in {table.path}; add one, or remove the folder"
            problems.append(Problem(str(folder), message, code="labels"))
        else:
            samples.append(SampleFolder(folder.name, folder))
    if not samples and not problems:
        raise DataError(f"holds no samples; {HOW_TO_GET}", dataset_dir)
    if table is not None and labels_required and not single:
        problems += [
            Problem(
                str(table.path),
                f"sample_id {text!r} has no folder in {root}; remove the row, or add the folder",
                code="labels",
            )
            for text in table.classes
            if text not in matched
        ]
    duplicates = _duplicates(samples)
    problems += [
        Problem(str(one.folder), duplicates[one.case], code="copies") for one in samples if one.case in duplicates
    ]
    problems += not_used((path for path in others if not is_table(path, table)), _why_not, root)
    return [one for one in samples if one.case not in duplicates], problems


def find_table(dataset_dir: str | Path, class_csv: str | Path | None, required: bool = True) -> ClassTable | None:
    """Read ``class_csv``, or else the one CSV in ``dataset_dir`` that has the right columns.

    Args:
        dataset_dir: folder of the samples.
        class_csv: the file to read; None to find it.
        required: whether a missing table is an error; else None is returned.

    Raises:
        DataError: naming the file, row and column, for a table that can't be read (see `monai_ext.io.read_csv`), an id
            that is no integer, an id with two names or a name with two ids; for several such files, or none when
            ``required``.
    """
    if class_csv is not None:
        return read_table(class_csv)
    root = Path(dataset_dir)
    if not root.is_dir():
        raise DataError(f"is not a folder; {HOW_TO_GET}", root)
    files = [file for file in entries(root) if file.suffix.lower() == ".csv"]
    fitting = [file for file in files if set(COLUMNS) <= columns_of(file, COLUMNS)]
    if len(fitting) > 1:
        names = ", ".join(file.name for file in fitting)
        raise DataError(f"has {len(fitting)} class tables ({names}); keep one, or choose by --class_csv FILE", root)
    if fitting:
        return read_table(fitting[0])
    if required and len(files) == 1:
        return read_table(files[0])  # its error names the missing columns
    if required:
        found = ", ".join(file.name for file in files) or "no CSV at all"
        raise DataError(f"has no CSV with the columns {','.join(COLUMNS)} (found {found}); {HOW_TO_GET}", root)
    return None


def read_table(path: str | Path) -> ClassTable:
    """Read a class CSV; see `find_table`.

    Args:
        path: CSV with the columns ``sample_id``, ``class_id``, ``class_name``, and perhaps one of
            `monai_ext.data.patients.PATIENT_COLUMNS`: nuclei of one patient stay on one side of every split.

    Raises:
        DataError: naming the file and row, see `find_table`; for two sample ids with the same number, or no row.
    """
    path = Path(path)
    classes: dict[str, tuple[int, str]] = {}
    names: dict[int, str] = {}
    ids: dict[str, int] = {}
    numbers: dict[int, str] = {}
    rows = read_csv(path, COLUMNS, unique="sample_id")
    for row in rows:
        sample, text, name = (row[column] for column in COLUMNS)
        where = f"sample_id {sample!r}"
        try:
            class_id = int(text)
        except ValueError:
            raise DataError(f"{where}, column 'class_id': {text!r} is not an integer", path, "labels") from None
        if names.setdefault(class_id, name) != name:
            raise DataError(
                f"{where}: class {class_id} is called {name!r} here, {names[class_id]!r} above", path, "labels"
            )
        if ids.setdefault(name, class_id) != class_id:
            raise DataError(f"{where}: {name!r} is class {class_id} here, class {ids[name]} above", path, "labels")
        number = _number(sample)
        if number is not None and numbers.setdefault(number, sample) != sample:
            raise DataError(f"{where} is the same number as {numbers[number]!r}; remove one row", path, "labels")
        classes[sample] = (class_id, name)
    if not classes:
        raise DataError("lists no sample", path, "labels")
    column = column_of_patients(rows, path)
    patients = {row["sample_id"]: row[column] for row in rows} if column else {}
    return ClassTable(path, classes, numbers, patients)


def is_table(path: Path, table: ClassTable | None) -> bool:
    """Whether a path is that of the table, links resolved."""
    return table is not None and os.path.realpath(path) == os.path.realpath(table.path)


def _why_not(path: Path) -> str:
    if path.is_dir():
        return "no folder raw, so no sample"
    return "not the table of the classes" if path.suffix.lower() == ".csv" else "neither a sample nor a table"


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None


def _duplicates(samples: Sequence[SampleFolder]) -> dict[str, str]:
    """Samples that may be one nucleus twice, which could then be in training and test set: case → problem."""
    numbers = Counter(_number(sample.case) for sample in samples)
    folders = Counter(os.path.realpath(sample.folder) for sample in samples)
    duplicates = {}
    for sample in samples:
        number = _number(sample.case)
        if number is not None and numbers[number] > 1:
            duplicates[sample.case] = f"another folder has the number {number}, too; rename or remove one"
        elif folders[os.path.realpath(sample.folder)] > 1:
            duplicates[sample.case] = "is a link to the folder of another sample; remove one"
    return duplicates
