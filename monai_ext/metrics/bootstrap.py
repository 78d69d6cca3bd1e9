"""Confidence intervals of metrics over cases."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from monai_ext.arrays import to_numpy
from monai_ext.metrics.classification import ClassificationResult, FloatArray, IntArray, scalar_metrics
from monai_ext.metrics.multi_label import MultiLabelResult
from monai_ext.metrics.multi_label_scores import LabelScores
from monai_ext.metrics.segmentation import SegmentationResult

# Numbers of all resamples that are looked at together, so that some 100 MB are enough.
_ENTRIES = 4_000_000


def bootstrap_interval(
    metric_fn: Callable[[FloatArray, IntArray], float | None],
    probabilities: ArrayLike,
    labels: ArrayLike,
    level: float = 0.95,
    n: int = 1000,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Percentile interval of a metric by a bootstrap stratified by class.

    Each resample draws with replacement within each class, so that it has the class counts of the original (and
    an AUC exists in every one). The interval tells of the cases, not of another training of the network.

    Args:
        metric_fn: ``metric_fn(probabilities, labels)`` → number, or ``None`` where it is not computable.
        probabilities: (N, C) or (N,).
        labels: (N,) class indices.
        level: coverage, 0..1.
        n: number of resamples.
        seed: of the resampling.

    Returns:
        ``(low, high)``, or ``None`` where the metric is not computable.
    """
    found = _bootstrap(lambda p, y: {"value": metric_fn(p, y)}, probabilities, labels, level, n, seed)
    return found.get("value")


def bootstrap_intervals(
    result: ClassificationResult, level: float = 0.95, n: int = 1000, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """`bootstrap_interval` of every single number in ``result.metrics``, on the same resamples."""
    if not np.isfinite(result.probabilities).all():
        return {}
    return _bootstrap(scalar_metrics, result.probabilities, result.labels, level, n, seed)


def multi_label_intervals(
    result: MultiLabelResult, level: float = 0.95, n: int = 1000, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Percentile intervals by a bootstrap over cases, of every metric and of every class's scores.

    Cases are drawn with replacement; the parts of a case (rows with its name) come together, so that many slices of
    few volumes don't look like many volumes. A class without positives or negatives in a resample is left out of that
    resample's averages.

    Args:
        result: of `multi_label_metrics`.
        level: coverage, 0..1.
        n: number of resamples.
        seed: of the resampling.

    Returns:
        metric → ``(low, high)``, ``<metric>/<class>`` for those of a class; without what can't be computed in more
        than one resample of twenty, as for a class with fewer than three positives.
    """
    _check_arguments(level, n)
    if not np.isfinite(result.probabilities).all():
        return {}
    scores = LabelScores(result.probabilities, result.labels, result.thresholds)
    numbers = {name: number for number, name in enumerate(dict.fromkeys(result.cases))}
    case_of = np.array([numbers[name] for name in result.cases]) if numbers else np.arange(len(result.labels))
    total = int(case_of.max()) + 1
    rng = np.random.default_rng(seed)
    at_once = max(1, _ENTRIES // result.labels.size)
    values: dict[str, list[FloatArray]] = {}
    for start in range(0, n, at_once):
        counts = rng.multinomial(total, np.full(total, 1 / total), size=min(at_once, n - start))
        by_class, overall = scores(counts[:, case_of].astype(np.float64))
        columns = {
            f"{metric}/{name}": found[:, number]
            for metric, found in by_class.items()
            for number, name in enumerate(result.class_names)
        }
        for metric, column in {**overall, **columns}.items():
            values.setdefault(metric, []).append(column)
    return _percentiles({metric: np.concatenate(parts) for metric, parts in values.items()}, level)


def segmentation_intervals(
    result: SegmentationResult, level: float = 0.95, n: int = 1000, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Percentile intervals by a bootstrap over patients, of every metric in 0..1: slices of a patient are alike.

    Args:
        result: of `monai_ext.metrics.SegmentationCases`.
        level: coverage, 0..1.
        n: number of resamples.
        seed: of the resampling.

    Returns:
        metric → ``(low, high)``, without what can't be computed in more than one resample of twenty; nothing for
        fewer than two patients.
    """
    _check_arguments(level, n)
    total = len(result.patients)
    if total < 2:
        return {}
    counts = np.random.default_rng(seed).multinomial(total, np.full(total, 1 / total), size=n)
    return _percentiles(result.scores(counts.astype(np.float64)), level)


def _percentiles(values: dict[str, FloatArray], level: float) -> dict[str, tuple[float, float]]:
    """Ends of the intervals of what is computable in 19 of 20 resamples at least."""
    intervals = {}
    for metric, found in values.items():
        finite = found[np.isfinite(found)]
        if len(finite) >= 0.95 * len(found):
            low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
            intervals[metric] = (float(low), float(high))
    return intervals


def _bootstrap(
    metrics_fn: Callable[[FloatArray, IntArray], dict[str, float | None]],
    probabilities: ArrayLike,
    labels: ArrayLike,
    level: float,
    n: int,
    seed: int,
) -> dict[str, tuple[float, float]]:
    _check_arguments(level, n)
    scores, truth = to_numpy(probabilities, np.float64), to_numpy(labels).astype(np.int64)
    rng = np.random.default_rng(seed)
    strata = [np.flatnonzero(truth == value) for value in np.unique(truth)]
    values: dict[str, list[float]] = {}
    for _ in range(n):
        chosen = np.concatenate([rng.choice(stratum, size=stratum.size) for stratum in strata])
        for name, value in metrics_fn(scores[chosen], truth[chosen]).items():
            if value is not None and np.isfinite(value):
                values.setdefault(name, []).append(value)
    tails = [(1 - level) / 2, (1 + level) / 2]
    return {
        name: (float(low), float(high))
        for name, found in values.items()
        if len(found) == n
        for low, high in [np.quantile(found, tails)]
    }


def _check_arguments(level: float, n: int) -> None:
    if not 0 < level < 1 or n < 1:
        raise ValueError(f"bootstrap: level must be within 0..1 and n at least 1, got level={level} and n={n}")
