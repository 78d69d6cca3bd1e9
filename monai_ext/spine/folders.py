"""Training folders: their slices, the patient of each, and splits by patient."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from monai_ext.data.left_out import not_used, refuse
from monai_ext.data.patients import patient_of_case
from monai_ext.data.splits import grouped_stratified_folds
from monai_ext.data.walk import Walk, walk
from monai_ext.errors import ConfigError
from monai_ext.spine.slices import SLICE_SUFFIXES


def slice_walk(folder: str | Path, repeatable: Sequence[str] = ()) -> Walk:
    """The PNG, JPEG and TIFF files below a folder, each once; and notes on all others.

    Args:
        folder: where to search.
        repeatable: see `monai_ext.data.walk.walk`.

    Raises:
        DataError: for a folder that doesn't exist or can't be listed, or a broken link to a slice.
    """
    found = walk(folder, SLICE_SUFFIXES, repeatable)
    refuse(found.problems)
    others = (file.path for file in found.others)
    return replace(found, problems=[*found.problems, *not_used(others, lambda _: "no PNG, JPEG or TIFF", folder)])


def patient_of(relative: Path) -> str:
    """The first folder of a path below its class (or ``images``); of a file there, its name up to the first "_".

    A time point at its end is no part of the patient, see `monai_ext.data.patients.patient_of_case`.
    """
    return patient_of_case(relative.parts[0] if len(relative.parts) > 1 else relative.stem.partition("_")[0])


def stamp_of(*files: Path) -> list[list[int]]:
    """[[size in bytes, modification time in ns], ...]."""
    return [[status.st_size, status.st_mtime_ns] for status in map(os.stat, files)]


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
