"""Confidence intervals of metrics over cases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
from numpy.typing import ArrayLike

from monai_ext.arrays import to_numpy
from monai_ext.metrics.classification import ClassificationResult, FloatArray, IntArray, scalar_metrics

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
    an AUC exists in every one). The interval covers the sampling of cases, not the variation between trainings.
    Percentile bootstrap: Efron and Tibshirani (1993), An Introduction to the Bootstrap.

    Args:
        metric_fn: ``metric_fn(probabilities, labels)`` → number, or ``None`` where it is not computable.
        probabilities: (N, C) or (N,).
        labels: (N,) class indices.
        level: coverage, between 0 and 1.
        n: number of resamples, at least 1.
        seed: of the resampling, at least 0.

    Returns:
        ``(low, high)``, or ``None`` where the metric is not computable.

    Raises:
        ValueError: for a level or number of resamples out of range.
    """
    check_arguments(level, n)
    scores, truth = to_numpy(probabilities, np.float64), to_numpy(labels).astype(np.int64)
    found = [metric_fn(scores[chosen], truth[chosen]) for chosen in _resamples(truth, n, seed)]
    values = np.array(found, dtype=np.float64)  # None becomes NaN
    return percentiles({"value": values}, level)["value"] if np.isfinite(values).all() else None


def bootstrap_intervals(
    result: ClassificationResult, level: float = 0.95, n: int = 1000, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """`bootstrap_interval` of every number in ``result.metrics``, on the same resamples.

    Args:
        result: of `monai_ext.metrics.classification_metrics`.
        level: coverage, between 0 and 1.
        n: number of resamples, at least 1.
        seed: of the resampling, at least 0.

    Returns:
        metric → ``(low, high)``, without metrics that aren't computable; empty where probabilities aren't finite.

    Raises:
        ValueError: for a level or number of resamples out of range.
    """
    if not np.isfinite(result.probabilities).all():
        return {}
    check_arguments(level, n)
    scores, truth = result.probabilities, result.labels
    values: dict[str, list[FloatArray]] = {}
    drawn = _resamples(truth, n, seed)
    at_once = max(1, _ENTRIES // len(truth))
    for start in range(0, n, at_once):
        counts = [np.bincount(chosen, minlength=len(truth)) for chosen in islice(drawn, min(at_once, n - start))]
        for name, found in scalar_metrics(scores, truth, np.array(counts, dtype=np.float64)).items():
            values.setdefault(name, []).append(found)
    return percentiles({name: np.concatenate(parts) for name, parts in values.items()}, level)


def percentiles(values: dict[str, FloatArray], level: float) -> dict[str, tuple[float, float]]:
    """Intervals of the metrics that are computable in at least 19 of 20 resamples."""
    intervals = {}
    for metric, found in values.items():
        finite = found[np.isfinite(found)]
        if len(finite) >= 0.95 * len(found):
            low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
            intervals[metric] = (float(low), float(high))
    return intervals


def _resamples(labels: IntArray, n: int, seed: int) -> Iterator[IntArray]:
    """Rows of each of ``n`` resamples, drawn within each class."""
    rng = np.random.default_rng(seed)
    strata = [np.flatnonzero(labels == value) for value in np.unique(labels)]
    for _ in range(n):
        yield np.concatenate([rng.choice(stratum, size=stratum.size) for stratum in strata])


def check_arguments(level: float, n: int) -> None:
    """Raise ``ValueError`` for a level outside 0..1 or fewer than one resample."""
    if not 0 < level < 1 or n < 1:
        raise ValueError(f"bootstrap: level must be within 0..1 and n at least 1, got level={level} and n={n}")
