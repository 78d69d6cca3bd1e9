"""Check of a copy of CT-RATE: all problems at once, before a run fails at the first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from monai_ext.ct_rate.chest_ct import read_chest_ct
from monai_ext.ct_rate.chest_range import chest_range
from monai_ext.ct_rate.finding import find_split_paths
from monai_ext.ct_rate.indexing import scan
from monai_ext.ct_rate.labels import LABELS
from monai_ext.ct_rate.slice_files import odd_slices, read_extracted_slice
from monai_ext.ct_rate.slice_table import extracted_slices
from monai_ext.ct_rate.volume import Volume
from monai_ext.data.checks import run_checks
from monai_ext.data.problems import Problem
from monai_ext.errors import DataError
from monai_ext.places import Place

# five folds
ENOUGH = 5


def check(
    dataset_dir: str | Path,
    workers: int | Place | None = None,
    metadata: str = "required",
    on_bad_volume: str = "error",
    slices_dir: str | Path | None = None,
    **places: str | Path | None,
) -> list[Problem]:
    """Read the tables, decode every volume or extracted slice, and list all problems; an empty list means that none was
    found.

    A label that fewer than five patients of the training set have, or lack, is a warning: some fold can't measure it.
    So is a volume without lungs. Notes list the labels that no patient has, or all have, and the volumes whose header
    and metadata table contradict each other or the voxels.

    Args:
        dataset_dir: see `monai_ext.ct_rate.volumes`.
        workers: threads, or a place such as `monai_ext.places.Dask`; default one per CPU, at most 8.
        metadata: "required", or "optional" where the headers are enough; see `monai_ext.ct_rate.volumes`.
        on_bad_volume: "error", or "skip" where training leaves out bad volumes, so that they are warnings.
        slices_dir: extracted slices, as in training, in place of the volumes.
        places: ``train_dir`` and the other paths of `monai_ext.ct_rate.volumes`.

    Returns:
        The problems: "error" where a run would fail or learn nonsense, else "warning" or "note".
    """
    try:
        if slices_dir is not None:
            index = extracted_slices(slices_dir, on_bad_volume="skip")
        else:
            index = scan(find_split_paths(dataset_dir, **places), metadata == "required")
    except DataError as error:
        return [Problem.of(error, dataset_dir)]
    found = run_checks(_check_volume, [{"volume": volume} for volume in index.volumes], workers)
    problems = [*index.problems, *_joined(found)]
    if on_bad_volume == "skip":
        problems = [replace(one, severity="warning") if one.severity == "error" else one for one in problems]
    if not index.volumes:
        problems.append(Problem(str(dataset_dir), "has no usable volume"))
    return problems + _check_labels(dataset_dir, [volume for volume in index.volumes if volume.split == "train"])


def _check_volume(volume: Volume) -> list[Problem]:
    if volume.slices:
        return _check_slices(volume)
    try:
        ct = read_chest_ct(volume.path, volume.rescale)
    except DataError as error:
        return [Problem.of(error, volume.path)]
    problems = []
    if ct.geometry_note:
        problems.append(Problem(volume.path, ct.geometry_note, "warning", "geometry"))
    if doubt := chest_range(ct).doubt:
        problems.append(Problem(volume.path, doubt, "warning", "no-lungs"))
    if volume.spacing and not np.allclose(sorted(ct.spacing), sorted(volume.spacing), rtol=0.01):
        message = "has other voxel sizes in its header than the metadata table, which counts"
        problems.append(Problem(volume.path, message, "note", "geometry", step="nothing, if the table is right"))
    if ct.contradiction:
        message = f"is read by its {ct.reading}, by which air and tissue are right, though its {ct.contradiction}"
        problems.append(Problem(volume.path, message, "note", "hounsfield", step="nothing"))
    return problems


def _joined(problems: Sequence[Problem]) -> list[Problem]:
    """One note for all volumes of which the same is noted: of CT-RATE's version 2 it is noted of each."""
    groups: dict[str, list[Problem]] = defaultdict(list)
    for problem in problems:
        groups[problem.message if problem.severity == "note" else str(problem)].append(problem)
    return [
        replace(
            first,
            message=first.message + (f" (the same for {len(others)} others)" if others else ""),
            files=tuple(other.path for other in others),
        )
        for first, *others in groups.values()
    ]


def _check_slices(volume: Volume) -> list[Problem]:
    problems = []
    images = {}
    for _, path in volume.slices:
        try:
            images[path] = read_extracted_slice(path)
        except DataError as error:
            problems.append(Problem.of(error, path))
    return problems + [Problem(path, difference) for path, difference in odd_slices(images).items()]


def _check_labels(dataset_dir: str | Path, volumes: Sequence[Volume]) -> list[Problem]:
    problems = []
    constant: dict[str, list[str]] = defaultdict(list)
    patients = {volume.patient for volume in volumes}
    for column, name in enumerate(LABELS):
        positive = {volume.patient for volume in volumes if volume.labels and volume.labels[column]}
        for found, what, other in ((positive, "have", "no"), (patients - positive, "lack", "every")):
            if patients and not found:
                constant[other].append(name)
            elif len(found) < ENOUGH:
                message = f"{len(found)} training patients {what} {name!r}, too few to measure it in each of five folds"
                problems.append(Problem(str(dataset_dir), message, "warning", "few-cases"))
    for other, names in constant.items():
        message = f"{other} training patient has {', '.join(names)}: nothing to learn there, and no scores for it"
        problems.append(Problem(str(dataset_dir), message, "note", "few-cases", step="nothing, or add such patients"))
    return problems
