"""Items for inference: volumes or extracted slices, with labels where these are known."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from monai_ext.ct_rate.finding import find_files
from monai_ext.ct_rate.indexing import volumes
from monai_ext.ct_rate.items import Items, slice_items, volume_items
from monai_ext.ct_rate.metadata import Metadata, read_metadata
from monai_ext.ct_rate.slice_table import extracted_slices, tables_of
from monai_ext.ct_rate.volume import SUFFIX, SUFFIXES, Volume, order, parse_name, volume_name
from monai_ext.errors import DataError

_SLICE = re.compile(r"(?P<volume>.+)_slice_(?P<index>\d+)\.npy")
_VOLUMES = " or ".join(SUFFIXES)


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
        Items as the package's docstring lists them.

    Raises:
        ConfigError: for unknown ``classes``, or ``num_slices`` below 1.
        DataError: when nothing is found, a table can't be read, two files have the same name, or volumes and slices are
            mixed.
    """
    if isinstance(inputs, str | Path):
        root = Path(inputs)
        labelled = any((folder / "multi_abnormality_labels").is_dir() for folder in (root, root / "dataset"))
        if labelled and metadata is None:
            return volume_items({"all": volumes(root).volumes}, classes)["all"]
        if tables_of(root):
            found = {"all": extracted_slices(root).volumes}
            return slice_items(found, classes, neighbours, num_slices)["all"]
        inputs = [root]
    files = sorted({path for entry in inputs for path in _files(Path(entry))})
    slices = [path for path in files if path.endswith(".npy")]
    if not files:
        raise DataError(f"no volume ({_VOLUMES}) and no slice (.npy) found in {[str(entry) for entry in inputs]}")
    if 0 < len(slices) < len(files):
        raise DataError(f"holds volumes ({_VOLUMES}) and slices (.npy); give only one kind", Path(files[0]).parent)
    if slices:
        return slice_items({"all": _from_slices(files)}, classes, neighbours, num_slices)["all"]
    listed, _ = read_metadata(metadata) if metadata is not None else ({}, [])
    return volume_items({"all": _from_volumes(files, listed)}, classes)["all"]


def _files(entry: Path) -> Iterable[str]:
    if entry.is_file():
        if not (entry.name.lower().endswith(SUFFIXES) or entry.name.endswith(".npy")):
            raise DataError(f"is neither a volume ({_VOLUMES}) nor a slice (.npy)", entry)
        return [os.path.abspath(entry)]
    if not entry.is_dir():
        raise DataError("no such file or folder", entry)
    slices = [os.path.abspath(path) for path in entry.rglob("*.npy") if not path.name.startswith(".")]
    return [*slices, *(file.path for file in find_files(entry)[0])]


def _from_volumes(files: Sequence[str], listed: dict[str, Metadata]) -> list[Volume]:
    found: dict[str, Volume] = {}
    for path in files:
        case = volume_name(path)
        if case in found:
            raise DataError(f"is the same case as {found[case].path}; rename one, or run them apart", path)
        known = listed.get(case)
        name = case if parse_name(case) else os.path.basename(path)
        found[case] = Volume(
            name=name,
            split="",
            patient=_patient(name),
            path=path,
            rescale=known.rescale if known is not None else None,
            spacing=known.spacing if known is not None else None,
            stamp=_stamp(path),
        )
    return sorted(found.values(), key=lambda volume: order(volume.name))


def _from_slices(files: Sequence[str]) -> list[Volume]:
    """Slices named ``<volume>_slice_<index>.npy`` belong together; any other is a volume by itself."""
    groups: dict[str, dict[int, str]] = {}
    for path in files:
        name = os.path.basename(path)
        match = _SLICE.fullmatch(name)
        case, index = (match["volume"] + SUFFIX, int(match["index"])) if match else (name.removesuffix(".npy"), 0)
        other = groups.setdefault(case, {}).setdefault(index, path)
        if other != path:
            raise DataError(f"is slice {index} of {case!r}, as is {other}; rename one, or run them apart", path)
    found = [
        Volume(case, "", _patient(case), stamp=_stamp(slices[min(slices)]), slices=tuple(sorted(slices.items())))
        for case, slices in groups.items()
    ]
    return sorted(found, key=lambda volume: order(volume.name))


def _patient(name: str) -> str:
    known = parse_name(name)
    return name if known is None else known.patient


def _stamp(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns
