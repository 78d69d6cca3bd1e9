"""The 18 abnormalities of CT-RATE, and the tables of each volume's labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from monai_ext.ct_rate.finding import volume_name
from monai_ext.data.problems import Problem
from monai_ext.errors import ConfigError, DataError
from monai_ext.io import read_csv

LABELS = (
    "Medical material",
    "Arterial wall calcification",
    "Cardiomegaly",
    "Pericardial effusion",
    "Coronary artery wall calcification",
    "Hiatal hernia",
    "Lymphadenopathy",
    "Emphysema",
    "Atelectasis",
    "Lung nodule",
    "Lung opacity",
    "Pulmonary fibrotic sequela",
    "Pleural effusion",
    "Mosaic attenuation pattern",
    "Peribronchial thickening",
    "Consolidation",
    "Bronchiectasis",
    "Interlobular septal thickening",
)
"""In the order of the columns of CT-RATE's own tables; published lists differ."""
NAME = "VolumeName"
_VALUES = {"0": 0, "1": 1, "0.0": 0, "1.0": 1}


def class_names(names: Sequence[str] | None = None) -> list[str]:
    """The labels to train on, in the order of a network's outputs.

    Args:
        names: some of `LABELS`, in any order; None for all.

    Raises:
        ConfigError: for a name that is none of `LABELS` or occurs twice, or an empty list.
    """
    chosen = list(LABELS if names is None else names)
    unknown = [name for name in chosen if name not in LABELS]
    if unknown or not chosen or len(set(chosen)) < len(chosen):
        raise ConfigError(f"class_names: expected different ones of {list(LABELS)}, got {unknown or chosen}")
    return chosen


def read_labels(path: str | Path) -> tuple[dict[str, tuple[int, ...]], list[Problem]]:
    """Read a table with ``VolumeName`` and a column for each of `LABELS`, in any order.

    Args:
        path: the CSV.

    Returns:
        volume name → 0 or 1 in the order of `LABELS`, for the good rows; and the problems of the others.

    Raises:
        DataError: for a table that can't be read, or whose columns aren't these.
    """
    rows = read_csv(path, [NAME])
    if not rows:
        raise DataError("has no rows", path, "labels")
    missing = [label for label in LABELS if label not in rows[0]]
    unknown = sorted(set(rows[0]) - {NAME, *LABELS})
    if missing or unknown:
        parts = [f"{what} {columns}" for what, columns in (("lacks", missing), ("has the unknown", unknown)) if columns]
        raise DataError(
            f"{' and '.join(parts)} among its columns; expected {NAME} and the 18 of CT-RATE", path, "labels"
        )
    found: dict[str, tuple[int, ...]] = {}
    problems: list[Problem] = []
    repeated: set[str] = set()
    for row in rows:
        name = volume_name(row[NAME]) or row[NAME]
        wrong = next((label for label in LABELS if row[label] not in _VALUES), None)
        if name in found:
            repeated.add(name)
            problems.append(Problem(str(path), f"has more than one row of {name!r}; keep one", code="labels"))
        elif wrong is not None:
            problems.append(
                Problem(str(path), f"{name!r} has {row[wrong]!r} for {wrong!r}, expected 0 or 1", code="labels")
            )
        else:
            found[name] = tuple(_VALUES[row[label]] for label in LABELS)
    return {name: labels for name, labels in found.items() if name not in repeated}, problems
