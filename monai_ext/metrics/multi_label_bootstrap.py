"""Confidence intervals of multi-label metrics, by a bootstrap over cases."""

from __future__ import annotations

import numpy as np

from monai_ext.metrics.bootstrap import check_arguments, percentiles
from monai_ext.metrics.classification import FloatArray
from monai_ext.metrics.multi_label import MultiLabelResult
from monai_ext.metrics.multi_label_scores import LabelScores

# Entries of the resamples computed together, so that some 100 MB are enough.
_ENTRIES = 4_000_000


def multi_label_intervals(
    result: MultiLabelResult, level: float = 0.95, n: int = 1000, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Percentile intervals by a bootstrap over cases, of every metric and of every class's scores.

    Cases are drawn with replacement; the instances of a case (rows with its name) are drawn together, so that many
    slices of few volumes don't count as many volumes. A class without positives or negatives in a resample is left out
    of that resample's averages.

    Args:
        result: of `multi_label_metrics`.
        level: coverage, between 0 and 1.
        n: number of resamples, at least 1.
        seed: of the resampling, at least 0.

    Returns:
        metric → ``(low, high)``, ``<metric>/<class>`` for those of a class; without metrics that can't be computed in
        more than one resample of twenty, as for a class with fewer than three positives.

    Raises:
        ValueError: for a level or number of resamples out of range.
    """
    check_arguments(level, n)
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
    return percentiles({metric: np.concatenate(parts) for metric, parts in values.items()}, level)
