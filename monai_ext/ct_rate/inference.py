"""Items for inference: volumes or extracted slices, with labels where these are known."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from monai_ext.csv_text import columns_of
from monai_ext.ct_rate.finding import KINDS, SUFFIX, VOLUME_SUFFIXES, volume_name
from monai_ext.ct_rate.indexing import volumes
from monai_ext.ct_rate.items import Items, slice_items, volume_items
from monai_ext.ct_rate.labels import NAME
from monai_ext.ct_rate.metadata import Metadata, read_metadata
from monai_ext.ct_rate.slice_table import extracted_slices, tables_of
from monai_ext.ct_rate.volume import Volume, order, parse_name
from monai_ext.data.case_names import distinct_cases
from monai_ext.data.left_out import Found, not_used, refuse
from monai_ext.data.problems import Problem
from monai_ext.data.stamps import stamp_of
from monai_ext.data.walk import suffix_of, walk
from monai_ext.errors import DataError

READ = (*VOLUME_SUFFIXES, ".npy")
_SLICE = re.compile(r"(?P<volume>.+)_slice_(?P<index>\d+)\.npy", re.IGNORECASE)


def inference_items(
    inputs: str | Path | Sequence[str | Path],
    classes: Sequence[str] | None = None,
    neighbours: bool = False,
    num_slices: int | None = None,
    metadata: str | Path | None = None,
) -> Items:
    """Items of volumes (NIfTI) or of slices (``.npy``) for `monai_ext.ct_rate.LoadChestCTd`, each file once.

    Args:
        inputs: CT-RATE's folder or one of extracted slices (labels kept); a volume, a slice, or a folder of either;
            or a list of volumes and slices, but not of both.
        classes: see `slice_items`.
        neighbours: for slices, see `slice_items`.
        num_slices: for slices, see `slice_items`.
        metadata: CSV with slope and intercept of the volumes; None where the volumes are in Hounsfield units or have
            slope and intercept in their headers.

    Returns:
        Items as the package's docstring lists them; files of a folder that aren't used are in their ``left_out``.

    Raises:
        ConfigError: for unknown ``classes``, or ``num_slices`` below 1.
        DataError: when nothing is found, a table can't be read, two files have the same name, or volumes and slices are
            mixed.
    """
    if isinstance(inputs, str | Path):
        root = Path(inputs)
        labelled = any((folder / "multi_abnormality_labels").is_dir() for folder in (root, root / "dataset"))
        if labelled and metadata is None:
            index = volumes(root)
            return Found(volume_items({"all": index.volumes}, classes)["all"], index.problems)
        if tables_of(root):
            index = extracted_slices(root)
            items = slice_items({"all": index.volumes}, classes, neighbours, num_slices)["all"]
            return Found(items, index.problems)
        inputs = [root]
    files, unused = _files(inputs, metadata)
    kinds = {volume_name(path) is not None for path in files}
    if not files:
        raise DataError(f"no volume ({KINDS}) and no slice (.npy) found in {[str(entry) for entry in inputs]}")
    if len(kinds) > 1:
        raise DataError(f"holds volumes ({KINDS}) and slices (.npy); give only one kind", Path(files[0]).parent)
    if kinds == {False}:
        return Found(slice_items({"all": _from_slices(files)}, classes, neighbours, num_slices)["all"], unused)
    listed, _ = read_metadata(metadata) if metadata is not None else ({}, [])
    return Found(volume_items({"all": _from_volumes(files, listed)}, classes)["all"], unused)


def _files(inputs: Sequence[str | Path], metadata: str | Path | None) -> tuple[list[str], list[Problem]]:
    """Paths of volumes and slices, and notes on the files of their folders that are neither, nor the metadata."""
    table = os.path.realpath(metadata) if metadata is not None else None
    found: set[str] = set()
    problems: list[Problem] = []
    for entry in map(Path, inputs):
        if entry.is_file():
            if suffix_of(entry, READ) is None:
                raise DataError(f"is neither a volume ({KINDS}) nor a slice (.npy)", entry)
            found.add(os.path.abspath(entry))
        elif entry.is_dir():
            below = walk(entry, READ, repeatable=(".npy",), title="finding volumes")
            found.update(file.path for file in below.files)
            others = (file.path for file in below.others if os.path.realpath(file.path) != table)
            problems += [*below.problems, *not_used(others, _why_not, entry)]
        else:
            raise DataError("no such file or folder", entry)
    refuse(problems)
    return sorted(found), problems


def _why_not(path: Path) -> str:
    if path.suffix.lower() == ".csv" and NAME in columns_of(path, [NAME]):
        return "a table of CT-RATE; one with slope and intercept is used when --metadata names it"
    return f"no volume ({KINDS}), no slice (.npy)"


def _from_volumes(files: Sequence[str], listed: dict[str, Metadata]) -> list[Volume]:
    found = [_volume(path, listed) for path in files]
    distinct = distinct_cases(found, lambda volume: volume.name, lambda volume: volume.path)
    return sorted(distinct, key=lambda volume: order(volume.name))


def _volume(path: str, listed: dict[str, Metadata]) -> Volume:
    name = str(volume_name(path))
    known = listed.get(name)
    return Volume(
        name=name,
        split="",
        patient=_patient(name),
        path=path,
        rescale=known.rescale if known is not None else None,
        spacing=known.spacing if known is not None else None,
        stamp=stamp_of([path]),
    )


def _from_slices(files: Sequence[str]) -> list[Volume]:
    """Slices named ``<volume>_slice_<index>.npy`` belong together; any other is a volume by itself."""
    groups: dict[str, dict[int, str]] = {}
    for path in files:
        name = os.path.basename(path)
        match = _SLICE.fullmatch(name)
        case, index = (match["volume"] + SUFFIX, int(match["index"])) if match else (name[:-4], 0)
        other = groups.setdefault(case, {}).setdefault(index, path)
        if other != path:
            raise DataError(f"is slice {index} of {case!r}, as is {other}; rename one, or run them apart", path)
    found = [
        Volume(case, "", _patient(case), stamp=stamp_of(path for _, path in slices), slices=slices)
        for case, slices in ((case, tuple(sorted(found.items()))) for case, found in groups.items())
    ]
    return sorted(found, key=lambda volume: order(volume.name))


def _patient(name: str) -> str:
    known = parse_name(name)
    return name if known is None else known.patient
