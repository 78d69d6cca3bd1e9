"""Check of series and training folders: all problems at once, before a run fails at the first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monai_ext.data.checks import run_checks
from monai_ext.data.masks import mask_fault, mask_values
from monai_ext.data.numbering import numbering_problems
from monai_ext.data.patients import patient_problems
from monai_ext.data.problems import Problem
from monai_ext.errors import DataError
from monai_ext.places import Place
from monai_ext.spine.class_folders import class_items, class_names
from monai_ext.spine.image_mask import image_mask_problems, mask_folders
from monai_ext.spine.series import Series, find_series
from monai_ext.spine.slices import read_mask, read_slice
from monai_ext.spine.volume_slices import image_slices, mask_slices

CLASS_STAGES = ("foundation", "anatomy", "location_view", "sequence")
MASK_STAGES = ("cord", "lesion")
SERIES = "series"
# of the demo: the masks of its series
REFERENCE = "reference"
# five folds
ENOUGH = 5

DEMO = (
    "to try things out, make demo data with `python -m monai_ext demo-data spinal_cord_cascade --output DIR` and pass "
    "`--dataset_dir DIR`"
)
_TRAINING = f"one with training folders ({', '.join((*CLASS_STAGES, *MASK_STAGES))})"
HOW_TO_GET = f"give a folder of series, or {_TRAINING}; {DEMO}"
HOW_TO_GET_TRAINING = f"give {_TRAINING}, or one of BIDS with masks in derivatives; {DEMO}"


def check(dataset_dir: str | Path, workers: int | Place | None = None) -> list[Problem]:
    """Open every file and list all problems; an empty list means that none was found.

    Training folders are expected under the names of their stages, series in ``series`` below ``dataset_dir``; a folder
    with none of these is read as series itself. Too few patients of a class for five folds are a warning.

    Args:
        dataset_dir: folder of training folders, of series, or of both.
        workers: threads, or a place such as `monai_ext.places.Dask`; default one per CPU, at most 8.

    Returns:
        The problems: "error" where a run would fail or learn nonsense, else "warning".
    """
    root = Path(dataset_dir)
    if not root.is_dir():
        return [Problem(str(dataset_dir), f"is not a folder; {HOW_TO_GET}")]
    problems: list[Problem] = []
    for stage in CLASS_STAGES:
        if (root / stage).is_dir():
            problems += _check_classes(root / stage, workers)
    for stage, folder in (masked := mask_folders(root)).items():
        problems += _check_masks(folder, stage, workers)
    if (root / SERIES).is_dir():
        problems += _check_series(root / SERIES, workers)
    elif not masked and not any((root / stage).is_dir() for stage in CLASS_STAGES):
        problems += _check_series(root, workers)
    return problems


def trainings(dataset_dir: str | Path) -> dict[str, str | None]:
    """Stage → its overlay of ``train.json`` (None for train.json itself), of the stages whose folders are there.

    Args:
        dataset_dir: folder of training folders, or of BIDS.
    """
    root = Path(dataset_dir)
    found = [*(stage for stage in CLASS_STAGES if (root / stage).is_dir()), *mask_folders(root)]
    return {stage: None if stage == "lesion" else f"stage_{stage}.json" for stage in found}


def _check_series(folder: Path, workers: int | Place | None) -> list[Problem]:
    series, problems = find_series(folder)
    if not series and all(problem.severity == "note" for problem in problems):
        return [*problems, Problem(str(folder), f"holds no series; {HOW_TO_GET}")]
    return problems + run_checks(_check_one_series, [{"series": one} for one in series], workers)


def _check_one_series(series: Series) -> list[Problem]:
    where = series.files[0]
    try:
        image = series.read()
    except DataError as error:
        return [Problem.of(error, where)]
    if series.kind == "slices":
        names = [path.name for path in series.files]
        return numbering_problems(where.parent, names) + _check_values(image.voxels, where.parent)
    note = [Problem(str(where), image.geometry_note, "warning", "geometry")] if image.geometry_note else []
    return note + _check_values(image.voxels, where if series.kind == "nifti" else where.parent)


def _check_classes(folder: Path, workers: int | Place | None) -> list[Problem]:
    try:
        items = class_items(folder)
    except DataError as error:
        return [Problem.of(error, folder)]
    names, patients = class_names(folder), defaultdict(set)
    for item in items:
        patients[names[item["label"]]].add(item["patient"])
    few = [
        Problem(str(folder / name), f"has slices of {len(found)} patients, too few for {ENOUGH} folds", "warning")
        for name, found in patients.items()
        if len(found) < ENOUGH
    ]
    few += _check_patients(folder, items)
    checked = run_checks(_check_image, [{"item": item} for item in _files(items)], workers)
    return [*few, *items.unused, *checked]


def _files(items: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """One item of each file: the slices of a volume are looked at together."""
    return list({item["image"]: item for item in reversed(items)}.values())[::-1]


def _check_image(item: Mapping[str, Any]) -> list[Problem]:
    try:
        return _check_values(_image(item), Path(item["image"]))
    except DataError as error:
        return [Problem.of(error, item["image"])]


def _image(item: Mapping[str, Any]) -> np.ndarray:
    return image_slices(item["image"]) if "slice" in item else read_slice(item["image"])


def _mask(item: Mapping[str, Any]) -> np.ndarray:
    return mask_slices(item["mask"], item["image"]) if "slice" in item else read_mask(item["mask"])


def _check_masks(folder: Path, stage: str, workers: int | Place | None) -> list[Problem]:
    try:
        items, found = image_mask_problems(folder, stage)
    except DataError as error:
        return [Problem.of(error, folder)]
    problems = run_checks(_check_pair, [{"item": item} for item in _files(items)], workers)
    failed = any(problem.severity == "error" for problem in (*problems, *found))
    if not failed and not any(_mask(item).any() for item in _files(items)):
        problems.append(Problem(str(folder / "masks"), "has nothing but zeros; there is nothing to learn"))
    return [*found, *_check_patients(folder, items), *problems]


def _check_patients(folder: Path, items: list[dict[str, Any]]) -> list[Problem]:
    step = "give all slices of a patient one folder, or names with the same beginning up to the first _"
    return patient_problems(folder, {item["patient"]: item["patient"] for item in items}, step)


def _check_pair(item: Mapping[str, Any]) -> list[Problem]:
    try:
        image, mask = _image(item), _mask(item)
    except DataError as error:
        return [Problem.of(error)]
    if image.shape != mask.shape:
        return [Problem(item["mask"], f"has {mask.shape} pixels, but its image has {image.shape}")]
    fault = mask_fault(mask_values(mask))
    several = [Problem(item["mask"], fault, "warning", "mask-values")] if fault else []
    return several + _check_values(image, Path(item["image"]))


def _check_values(values: np.ndarray, where: Path) -> list[Problem]:
    bad = values.size - int(np.isfinite(values).sum())
    if bad:
        return [Problem(str(where), f"{bad} of {values.size} values are NaN or infinite")]
    if values.min() == values.max():
        return [Problem(str(where), f"has the value {values.flat[0]:g} everywhere; there is no image")]
    return []
