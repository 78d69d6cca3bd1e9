"""Confidence intervals of metrics over cases."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from monai_ext.arrays import to_numpy
from monai_ext.metrics.classification import ClassificationResult, FloatArray, IntArray, scalar_metrics


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
    found = _bootstrap(lambda p, y: {"value": metric_fn(p, y)}, probabilities, labels, level, n, seed)
    return found.get("value")


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
    return _bootstrap(scalar_metrics, result.probabilities, result.labels, level, n, seed)


def percentiles(values: dict[str, FloatArray], level: float) -> dict[str, tuple[float, float]]:
    """Intervals of the metrics that are computable in at least 19 of 20 resamples."""
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
    check_arguments(level, n)
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


def check_arguments(level: float, n: int) -> None:
    """Raise ``ValueError`` for a level outside 0..1 or fewer than one resample."""
    if not 0 < level < 1 or n < 1:
        raise ValueError(f"bootstrap: level must be within 0..1 and n at least 1, got level={level} and n={n}")
