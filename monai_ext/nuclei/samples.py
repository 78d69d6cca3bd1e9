"""Nuclei on disk: one folder per sample, and a CSV with the class of each."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from monai_ext.data.problems import Problem
from monai_ext.data.walk import natural_key
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
    """A nucleus on disk: ``case`` is the folder's name; the class is None when unknown."""

    case: str
    folder: Path
    class_id: int | None = None
    class_name: str | None = None


@dataclass(frozen=True)
class ClassTable:
    """The class CSV: ``sample_id`` → (class_id, class_name), and number → ``sample_id`` for those that are numbers."""

    path: Path
    classes: Mapping[str, tuple[int, str]]
    numbers: Mapping[int, str]

    def sample_id(self, case: str) -> str | None:
        """The id in the table that means the folder ``case``: the same text, else the same number (1 and 0001)."""
        if case in self.classes:
            return case
        number = _number(case)
        return self.numbers.get(number) if number is not None else None


def find_samples(
    dataset_dir: str | Path, table: ClassTable | None, labels_required: bool = True
) -> tuple[list[SampleFolder], list[Problem]]:
    """All samples in natural order of their ids, and the problems of the others; opens no image.

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
    entries = [root] if single else [entry for entry in root.iterdir() if not entry.name.startswith(".")]
    samples, problems, matched = [], [], set()
    for folder in sorted(entries, key=lambda entry: natural_key(entry.name)):
        listed = table.sample_id(folder.name) if table is not None else None
        if not folder.is_dir() or not ((folder / "raw").is_dir() or listed or folder.name.isdigit()):
            continue
        matched.add(listed)
        if table is not None and listed is not None:
            samples.append(SampleFolder(folder.name, folder, *table.classes[listed]))
        elif labels_required and table is not None:
            problems.append(Problem(str(folder), f"has no row in {table.path}; add one, or remove the folder"))
        else:
            samples.append(SampleFolder(folder.name, folder))
    if not samples and not problems:
        raise DataError(f"holds no samples; {HOW_TO_GET}", dataset_dir)
    if table is not None and labels_required and not single:
        problems += [
            Problem(str(table.path), f"sample_id {text!r} has no folder in {root}; remove the row, or add the folder")
            for text in table.classes
            if text not in matched
        ]
    duplicates = _duplicates(samples)
    problems += [Problem(str(one.folder), duplicates[one.case]) for one in samples if one.case in duplicates]
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
    files = sorted(file for file in root.iterdir() if file.suffix.lower() == ".csv" and file.name[0] != ".")
    fitting = [file for file in files if _has_columns(file)]
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
        path: CSV with the columns ``sample_id``, ``class_id``, ``class_name``.

    Raises:
        DataError: naming the file and row, see `find_table`; for two sample ids with the same number, or no row.
    """
    path = Path(path)
    classes: dict[str, tuple[int, str]] = {}
    names: dict[int, str] = {}
    ids: dict[str, int] = {}
    numbers: dict[int, str] = {}
    for row in read_csv(path, COLUMNS, unique="sample_id"):
        sample, text, name = (row[column] for column in COLUMNS)
        where = f"sample_id {sample!r}"
        try:
            class_id = int(text)
        except ValueError:
            raise DataError(f"{where}, column 'class_id': {text!r} is not an integer", path) from None
        if names.setdefault(class_id, name) != name:
            raise DataError(f"{where}: class {class_id} is called {name!r} here, {names[class_id]!r} above", path)
        if ids.setdefault(name, class_id) != class_id:
            raise DataError(f"{where}: {name!r} is class {class_id} here, class {ids[name]} above", path)
        number = _number(sample)
        if number is not None and numbers.setdefault(number, sample) != sample:
            raise DataError(f"{where} is the same number as {numbers[number]!r}; remove one row", path)
        classes[sample] = (class_id, name)
    if not classes:
        raise DataError("lists no sample", path)
    return ClassTable(path, classes, numbers)


def _has_columns(file: Path) -> bool:
    try:
        with open(file, encoding="utf-8-sig", errors="replace") as lines:
            header = [name.strip().strip('"') for name in lines.readline().split(",")]
    except OSError:
        return False
    return set(COLUMNS) <= set(header)


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
