"""From instances (crops of a nucleus, slices of a volume) to cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike

from monai_ext.arrays import to_numpy
from monai_ext.errors import ConfigError, DataError
from monai_ext.metrics.classification import ClassificationResult, FloatArray, classification_metrics
from monai_ext.metrics.intervals import PATIENT

MERGES = ("mean", "max")
T = TypeVar("T")


def merge_parts(parts: ClassificationResult, positive: str | None = None) -> ClassificationResult:
    """Metrics of the cases that instances belong to; a case's probabilities are the mean of its instances'.

    Args:
        parts: one row per instance; ``cases`` has the case of each.
        positive: see `classification_metrics`.

    Returns:
        Result with one row per case, in the order of their first instances.

    Raises:
        DataError: when the instances of a case have different labels, or for an unknown positive class.
    """
    names, probabilities = mean_by_case(parts.cases, parts.probabilities)
    label_of = label_by_case(parts.cases, [parts.class_names[label] for label in parts.labels])
    labels = [parts.class_names.index(label_of[name]) for name in names]
    columns = patient_column(parts.cases, parts.columns)
    return classification_metrics(probabilities, labels, parts.class_names, positive, names, columns)


def mean_by_case(cases: Sequence[str], probabilities: ArrayLike) -> tuple[list[str], FloatArray]:
    """Names of the M cases in the order of their first instances, and the mean probabilities of their instances.

    Args:
        cases: (N,) name of the case that each instance belongs to.
        probabilities: (N, C), 0..1.

    Returns:
        M names and (M, C) float64.
    """
    names, case_of = _numbered(cases)
    scores = to_numpy(probabilities, np.float64)
    sums = np.zeros((len(names), scores.shape[1]))
    np.add.at(sums, case_of, scores)
    return names, sums / np.bincount(case_of)[:, None]


def max_by_case(cases: Sequence[str], probabilities: ArrayLike) -> tuple[list[str], FloatArray]:
    """As `mean_by_case`, with the largest probability of each class.

    Args:
        cases: see `mean_by_case`.
        probabilities: see `mean_by_case`.
    """
    names, case_of = _numbered(cases)
    scores = to_numpy(probabilities, np.float64)
    largest = np.full((len(names), scores.shape[1]), -np.inf)
    np.maximum.at(largest, case_of, scores)
    return names, largest


def _numbered(cases: Sequence[str]) -> tuple[list[str], np.ndarray]:
    numbers = {name: number for number, name in enumerate(dict.fromkeys(cases))}
    return list(numbers), np.array([numbers[name] for name in cases], dtype=np.int64)


def label_by_case(cases: Sequence[str], labels: Sequence[T]) -> dict[str, T]:
    """The label of each case.

    Args:
        cases: (N,) name of the case that each instance belongs to.
        labels: (N,) label of each instance.

    Raises:
        DataError: when two instances of a case have different labels.
    """
    found: dict[str, T] = {}
    for case, label in zip(cases, labels, strict=True):
        if found.setdefault(case, label) != label:
            raise DataError(
                f"case {case!r} has parts labelled {found[case]!r} and parts labelled {label!r}; "
                "all parts of a case must have its label"
            )
    return found


def patient_column(cases: Sequence[str], columns: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """The column ``patient`` of the cases that instances belong to, in the order of their first instances.

    Args:
        cases: (N,) name of the case that each instance belongs to.
        columns: of the instances, perhaps with ``patient``.
    """
    if PATIENT not in columns:
        return {}
    return {PATIENT: list(dict(zip(cases, columns[PATIENT], strict=True)).values())}


def part_values(item: Mapping[str, Any], columns: Sequence[str]) -> dict[str, Any]:
    """The values that distinguish an instance from the others of its case, as plain numbers or text.

    Args:
        item: a decollated batch item.
        columns: its keys, for example ``["crop_z", "crop_y", "crop_x"]``.

    Raises:
        ConfigError: when the item lacks a column.
    """
    missing = [name for name in columns if name not in item]
    if missing:
        raise ConfigError(f"part_columns: the items have no {missing[0]!r}; their keys are {sorted(item)}")
    values = {name: item[name] for name in columns}
    return {n: v.item() if isinstance(v, (torch.Tensor, np.generic)) else v for n, v in values.items()}
