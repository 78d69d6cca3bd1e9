"""Confidence intervals of a classifier's metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
from numpy.typing import ArrayLike

from monai_ext.arrays import to_numpy
from monai_ext.metrics.classification import ClassificationResult, FloatArray, IntArray, resampled_metrics
from monai_ext.metrics.intervals import Interval, Units, percentile, too_few, units_of, wilson

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
    """Percentile interval of a metric by a bootstrap over independent cases, stratified by class.

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
        ``(low, high)``, or ``None`` where it can't be estimated: the metric is not computable, a class has fewer than
        ten cases, or all resamples give the same (with all cases right, say, which says nothing about new ones).

    Raises:
        ValueError: for a level or number of resamples out of range.
    """
    check_arguments(level, n)
    scores, truth = to_numpy(probabilities, np.float64), to_numpy(labels).astype(np.int64)
    units = Units(np.arange(len(truth)), "cases")
    values = []
    for counts in resamples(truth, units, n, seed):
        chosen = np.repeat(np.arange(len(truth)), counts)
        value = metric_fn(scores[chosen], truth[chosen])
        values.append(np.nan if value is None else value)
    few = too_few({f"of class {value}": int((truth == value).sum()) for value in np.unique(truth)}, "cases")
    return percentile(np.array(values), units, few, level).ends


def classification_intervals(
    result: ClassificationResult, unit: str = "cases", level: float = 0.95, n: int = 1000, seed: int = 0
) -> dict[str, Interval]:
    """Interval of every number in ``result.metrics``, and as ``<metric>/<class>`` of those of the classes.

    Proportions (accuracy, top-2 accuracy, recall and precision of a class) have Wilson's interval where each row is a
    patient (or a case of its own). All others, and proportions too where several rows belong to one patient, have that
    of a bootstrap over patients within their classes, which is not estimable where a class has fewer than ten of them,
    or resamples don't vary.

    Args:
        result: of `monai_ext.metrics.classification_metrics`; a column ``patient`` names the patients.
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
    units = units_of(result, unit)
    found = _bootstrapped(result, units, level, n, seed)
    if units.are_rows:
        found |= {name: wilson(*counted, units.name, level) for name, counted in _proportions(result).items()}
    values = {**result.metrics}
    values |= {f"{name}/{one}": value for one, scores in result.per_class.items() for name, value in scores.items()}
    return {name: found[name] for name, value in values.items() if value is not None and name in found}


def _proportions(result: ClassificationResult) -> dict[str, tuple[float, int]]:
    """Hits and trials of the metrics that are proportions of cases."""
    total, matrix = len(result.labels), np.array(result.confusion_matrix)
    whole = {name: result.metrics.get(name) for name in ("accuracy", "top2_accuracy")}
    found = {name: (value * total, total) for name, value in whole.items() if value is not None}
    for index, name in enumerate(result.class_names):
        found[f"recall/{name}"] = (matrix[index, index], int(matrix[index].sum()))
        found[f"precision/{name}"] = (matrix[index, index], int(matrix[:, index].sum()))
    return found


def _bootstrapped(result: ClassificationResult, units: Units, level: float, n: int, seed: int) -> dict[str, Interval]:
    truth, present = result.labels, np.unique(result.labels)
    values: dict[str, list[FloatArray]] = {}
    drawn = resamples(truth, units, n, seed)
    at_once = max(1, _ENTRIES // len(truth))
    for start in range(0, n, at_once):
        counts = np.array(list(islice(drawn, min(at_once, n - start))), dtype=np.float64)
        overall, of_classes = resampled_metrics(result.probabilities, truth, counts)
        columns = {
            f"{metric}/{result.class_names[index]}": found[:, number]
            for metric, found in of_classes.items()
            for number, index in enumerate(present)
        }
        for name, found in {**overall, **columns}.items():
            values.setdefault(name, []).append(found)
    sizes = {result.class_names[index]: units.among(truth == index) for index in present}
    whole = too_few({f"of class {name}": count for name, count in sizes.items()}, units.name)

    def few(name: str) -> str | None:
        _, _, own = name.partition("/")
        if not own:
            return whole
        others = units.among(truth != result.class_names.index(own))
        return too_few({f"of class {own}": sizes[own], f"of other classes than {own}": others}, units.name)

    return {name: percentile(np.concatenate(parts), units, few(name), level) for name, parts in values.items()}


def resamples(labels: IntArray, units: Units, n: int, seed: int) -> Iterator[IntArray]:
    """How often each row is in each of ``n`` resamples of the units, drawn among those with the same classes."""
    rng = np.random.default_rng(seed)
    classes: list[set[int]] = [set() for _ in range(units.total)]
    for unit, label in zip(units.of_row.tolist(), labels.tolist(), strict=True):
        classes[unit].add(label)
    strata: dict[tuple[int, ...], list[int]] = {}
    for unit, found in enumerate(classes):
        strata.setdefault(tuple(sorted(found)), []).append(unit)
    members = [np.array(strata[kind]) for kind in sorted(strata)]
    for _ in range(n):
        drawn = np.concatenate([rng.choice(stratum, size=stratum.size) for stratum in members])
        yield np.bincount(drawn, minlength=units.total)[units.of_row]


def check_arguments(level: float, n: int) -> None:
    """Raise ``ValueError`` for a level outside 0..1 or fewer than one resample."""
    if not 0 < level < 1 or n < 1:
        raise ValueError(f"bootstrap: level must be within 0..1 and n at least 1, got level={level} and n={n}")
