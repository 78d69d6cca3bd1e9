"""Metrics of a classifier with several heads, of which each case belongs to one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import softmax

from monai_ext.arrays import to_numpy
from monai_ext.heads import head_class_names, head_numbers, heads_of
from monai_ext.metrics.classification import ClassificationResult, FloatArray, IntArray, classification_metrics


def head_results(
    probabilities: ArrayLike,
    labels: ArrayLike,
    class_names: Sequence[str],
    columns: Mapping[str, Sequence[Any]] | None = None,
) -> dict[str, ClassificationResult]:
    """`classification_metrics` of each head by itself; a head without cases is left out.

    Args:
        probabilities: see `head_metrics`.
        labels: see `head_metrics`.
        class_names: see `head_metrics`.
        columns: see `classification_metrics`.

    Raises:
        ConfigError: for names without a head.
        DataError: see `classification_metrics`.
    """
    scores, truth, names = to_numpy(probabilities), to_numpy(labels), head_class_names(class_names)
    found = {}
    for head, positions in heads_of(class_names).items():
        rows, place = np.isin(truth, positions), slice(positions.start, positions.stop)
        if rows.any():
            own = {
                name: [values[row] for row in np.flatnonzero(rows).tolist()] for name, values in (columns or {}).items()
            }
            found[head] = classification_metrics(
                scores[rows, place], truth[rows] - positions.start, names[head], columns=own
            )
    return found


def head_metrics(
    probabilities: ArrayLike,
    labels: ArrayLike,
    class_names: Sequence[str],
    cases: Sequence[str] | None = None,
    columns: Mapping[str, Sequence[Any]] | None = None,
) -> ClassificationResult:
    """Metrics of all heads as one result: every number is the mean over the heads, ``f1_<head>`` that of one head.

    Classes compete with those of their own head only.

    Args:
        probabilities: (N, C), for the classes of the case's head with the sum 1, else 0.
        labels: (N,) positions in ``class_names``.
        class_names: ``<head>/<class>``, see `monai_ext.heads.heads_of`; each head has two or more.
        cases: see `classification_metrics`.
        columns: see `classification_metrics`.

    Raises:
        ConfigError: for names without a head.
        DataError: see `classification_metrics`.
    """
    whole = classification_metrics(probabilities, labels, class_names, cases=cases, columns=columns)
    heads = heads_of(class_names)
    results = head_results(whole.probabilities, whole.labels, class_names)
    numbers = {name: _mean([found.metrics.get(name) for found in results.values()]) for name in whole.metrics}
    numbers |= {f"f1_{head}": results[head].metrics["f1"] if head in results else None for head in heads}
    if not np.isfinite(whole.probabilities).all():
        return replace(whole, metrics=dict.fromkeys(numbers))
    return replace(
        whole,
        metrics=numbers,
        per_class={
            f"{head}/{name}": values for head, found in results.items() for name, values in found.per_class.items()
        },
        skipped=[
            *(f"{head}: no case of it; averages leave it out" for head in heads if head not in results),
            *(f"{head}: {reason}" for head, found in results.items() for reason in found.skipped),
        ],
    )


def own_probabilities(logits: FloatArray, labels: IntArray, class_names: Sequence[str]) -> FloatArray:
    """Softmax over the classes of the case's head, 0 elsewhere."""
    heads = np.array(head_numbers(class_names))
    own = heads == heads[labels][:, None]
    return np.asarray(softmax(np.where(own, logits, -np.inf), axis=1))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
