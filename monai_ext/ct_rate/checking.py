"""Check of a copy of CT-RATE: all problems at once, before a run fails at the first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from monai_ext.ct_rate.chest_ct import read_chest_ct
from monai_ext.ct_rate.finding import find_split_paths
from monai_ext.ct_rate.indexing import scan
from monai_ext.ct_rate.labels import LABELS
from monai_ext.ct_rate.volume import Volume
from monai_ext.data.checks import run_checks
from monai_ext.data.problems import Problem
from monai_ext.errors import DataError
from monai_ext.places import Place

# five folds
ENOUGH = 5


def check(dataset_dir: str | Path, workers: int | Place | None = None, metadata: str = "required") -> list[Problem]:
    """Read the tables, open every volume, and list all problems; an empty list means that none was found.

    A label that fewer than five patients of the training set have, or lack, is a warning: some fold can't measure it.

    Args:
        dataset_dir: see `monai_ext.ct_rate.volumes`.
        workers: threads, or a place such as `monai_ext.places.Dask`; default one per CPU, at most 8.
        metadata: "required", or "optional" where the headers are enough; see `monai_ext.ct_rate.volumes`.

    Returns:
        The problems: "error" where a run would fail or learn nonsense, else "warning".
    """
    try:
        index = scan(find_split_paths(dataset_dir), metadata == "required")
    except DataError as error:
        return [Problem.of(error, dataset_dir)]
    problems = list(index.problems)
    if not index.volumes:
        problems.append(Problem(str(dataset_dir), "has no usable volume"))
    problems += run_checks(_check_volume, [{"volume": volume} for volume in index.volumes], workers)
    return problems + _check_labels(dataset_dir, [volume for volume in index.volumes if volume.split == "train"])


def _check_volume(volume: Volume) -> list[Problem]:
    try:
        ct = read_chest_ct(volume.path, volume.rescale)
    except DataError as error:
        return [Problem.of(error, volume.path)]
    return [Problem(volume.path, ct.geometry_note, "warning", "geometry")] if ct.geometry_note else []


def _check_labels(dataset_dir: str | Path, volumes: Sequence[Volume]) -> list[Problem]:
    problems = []
    patients = {volume.patient for volume in volumes}
    for column, name in enumerate(LABELS):
        positive = {volume.patient for volume in volumes if volume.labels and volume.labels[column]}
        for found, what in ((positive, "have"), (patients - positive, "lack")):
            if patients and len(found) < ENOUGH:
                message = f"{len(found)} training patients {what} {name!r}, too few to measure it in each of five folds"
                problems.append(Problem(str(dataset_dir), message, "warning"))
    return problems
