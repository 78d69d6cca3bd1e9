"""Confidence intervals of multi-label metrics."""

from __future__ import annotations

import numpy as np

from monai_ext.metrics.bootstrap import check_arguments
from monai_ext.metrics.classification import FloatArray
from monai_ext.metrics.intervals import Interval, Units, percentile, too_few, units_of, wilson
from monai_ext.metrics.multi_label import MultiLabelResult
from monai_ext.metrics.multi_label_scores import TUNED, LabelScores

# Entries of the resamples computed together, so that some 100 MB are enough.
_ENTRIES = 4_000_000
# Over all entries or cases of all labels, so that no single label has to be frequent.
_POOLED = ("_micro", "hamming", "exact_match")


def multi_label_intervals(
    result: MultiLabelResult, unit: str = "cases", level: float = 0.95, n: int = 1000, seed: int = 0
) -> dict[str, Interval]:
    """Interval of every metric, and as ``<metric>/<class>`` of every class's scores.

    Proportions (accuracy, precision and recall of a class, exact match) have Wilson's interval where each row is a
    patient (or a case of its own). All others have that of a bootstrap over patients, whose rows are drawn together, so
    that many slices of few volumes don't count as many volumes. It is not estimable where fewer than ten patients have
    a class or don't have it (for averages: any of their classes), or resamples don't vary. A class without positives or
    negatives in a resample is left out of that resample's averages.

    Args:
        result: of `multi_label_metrics`; a column ``patient`` names the patients.
        unit: name of the cases, where patients aren't known.
        level: coverage, between 0 and 1.
        n: number of resamples, at least 1.
        seed: of the resampling, at least 0.

    Returns:
        by name of the metric, without metrics that aren't computable; empty where probabilities aren't finite.

    Raises:
        ValueError: for a level or number of resamples out of range.
    """
    check_arguments(level, n)
    if not np.isfinite(result.probabilities).all():
        return {}
    scores = LabelScores(result.probabilities, result.labels, result.thresholds)
    units = units_of(result, unit)
    total = units.total
    rng = np.random.default_rng(seed)
    at_once = max(1, _ENTRIES // result.labels.size)
    values: dict[str, list[FloatArray]] = {}
    for start in range(0, n, at_once):
        counts = rng.multinomial(total, np.full(total, 1 / total), size=min(at_once, n - start))
        by_class, overall = scores(counts[:, units.of_row].astype(np.float64))
        columns = {
            f"{metric}/{name}": found[:, number]
            for metric, found in by_class.items()
            for number, name in enumerate(result.class_names)
        }
        for metric, column in {**overall, **columns}.items():
            values.setdefault(metric, []).append(column)
    few = _few(result, units)
    found = {
        metric: percentile(np.concatenate(parts), units, few[_kind(metric)], level) for metric, parts in values.items()
    }
    if units.are_rows:
        proportions = _proportions(result, scores)
        found |= {metric: wilson(*counted, units.name, level) for metric, counted in proportions.items()}
    known = {name: value for name, value in result.metrics.items() if value is not None}
    known |= {
        f"{metric}/{name}": value
        for name, own in result.per_class.items()
        for metric, value in own.items()
        if value is not None
    }
    return {metric: interval for metric, interval in found.items() if metric in known}


def _kind(metric: str) -> str:
    """What must be frequent enough for a metric: a class by name, all of them, or ``"*"`` for patients at all."""
    plain = metric.removesuffix(TUNED)
    return "*" if plain.endswith(_POOLED) else metric.partition("/")[2]


def _few(result: MultiLabelResult, units: Units) -> dict[str, str | None]:
    sizes = {
        name: {
            f"with {name}": units.among(result.labels[:, number]),
            f"without {name}": units.among(~result.labels[:, number]),
        }
        for number, name in enumerate(result.class_names)
    }
    scored = [
        entry for name, both in sizes.items() if result.per_class[name]["auroc"] is not None for entry in both.items()
    ]
    reasons = {name: too_few(both, units.name) for name, both in sizes.items()}
    return {**reasons, "": too_few(dict(scored) or {"": 0}, units.name), "*": too_few({"": units.total}, units.name)}


def _proportions(result: MultiLabelResult, scores: LabelScores) -> dict[str, tuple[float, float]]:
    """Hits and trials of the metrics that are proportions of cases."""
    labels, total = result.labels, len(result.labels)
    found: dict[str, tuple[float, float]] = {}
    for suffix, predicted in scores.cuts.items():
        right = predicted == labels
        found[f"exact_match{suffix}"] = (right[:, scores.scored].all(axis=1).sum(), total)
        for number, name in enumerate(result.class_names):
            hits = (predicted & labels)[:, number].sum()
            found[f"accuracy{suffix}/{name}"] = (right[:, number].sum(), total)
            found[f"recall{suffix}/{name}"] = (hits, labels[:, number].sum())
            found[f"precision{suffix}/{name}"] = (hits, predicted[:, number].sum())
    return found
