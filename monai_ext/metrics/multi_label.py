"""Multi-label metrics over all cases; metrics that can't be computed are ``None``, not 0."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from monai_ext.arrays import to_numpy
from monai_ext.errors import ConfigError, DataError
from monai_ext.metrics.calibration import best_threshold
from monai_ext.metrics.multi_label_scores import (
    BoolArray,
    FloatArray,
    LabelScores,
    class_score_names,
    overall_score_names,
)
from monai_ext.metrics.parts import MERGES, label_by_case, max_by_case, mean_by_case, patient_column


@dataclass(frozen=True)
class MultiLabelResult:
    """Result of `multi_label_metrics`. ``None`` represents "not computable"; ``skipped`` has the reasons.

    Args:
        class_names: C names in the order of the columns.
        metrics: macro averages ``auroc, average_precision, f1, precision, recall, accuracy``; over all entries
            ``auroc_micro, average_precision_micro, f1_micro, precision_micro, recall_micro``; ``hamming``, the
            fraction of wrong entries (1 − the micro accuracy); ``exact_match``, the fraction of cases without a wrong
            entry. None counts a class of which all cases have the same label. All in 0..1, decisions at 0.5, and with
            thresholds again at these with the suffix ``_tuned``.
        per_class: name → its auroc, average_precision, f1, precision, recall, accuracy, ``support`` (positive cases),
            and with thresholds ``threshold`` and the scores with the suffix ``_tuned``.
        thresholds: C least probabilities at which a label is predicted, 0..1; ``None`` for 0.5.
        skipped: one sentence for each metric that could not be computed.
        cases: N names of the cases; empty when unknown. Instances of one case (slices of a volume) have its name.
        columns: further columns of the prediction file, name → N values, which distinguish instances.
        probabilities: (N, C) float64, 0..1.
        labels: (N, C) bool.
    """

    class_names: list[str]
    metrics: dict[str, float | None]
    per_class: dict[str, dict[str, float | int | None]]
    thresholds: list[float] | None
    skipped: list[str] = field(default_factory=list)
    cases: list[str] = field(default_factory=list)
    columns: dict[str, list[Any]] = field(default_factory=dict)
    probabilities: FloatArray = field(default_factory=lambda: np.empty((0, 0)))
    labels: BoolArray = field(default_factory=lambda: np.empty((0, 0), dtype=np.bool_))

    @property
    def predictions(self) -> BoolArray:
        """(N, C) bool, at the thresholds."""
        return self.probabilities >= np.asarray(0.5 if self.thresholds is None else self.thresholds)

    def to_dict(self) -> dict[str, Any]:
        """All fields except arrays, case names and columns, ready for ``metrics.json``."""
        names = ("class_names", "metrics", "per_class", "thresholds", "skipped")
        return {name: getattr(self, name) for name in names}

    def rows(self) -> list[dict[str, Any]]:
        """One row per case: case, ``columns``, then prob_<class> …, pred_<class> … and label_<class> … (0 or 1)."""
        names = self.cases or [str(number) for number in range(len(self.labels))]
        parts = {"prob": self.probabilities, "pred": self.predictions.astype(int), "label": self.labels.astype(int)}
        return [
            {"case": case}
            | {name: values[number] for name, values in self.columns.items()}
            | {
                f"{part}_{name}": value
                for part, table in parts.items()
                for name, value in zip(self.class_names, table[number].tolist(), strict=True)
            }
            for number, case in enumerate(names)
        ]


def multi_label_metrics(
    probabilities: ArrayLike,
    labels: ArrayLike,
    class_names: Sequence[str],
    thresholds: Sequence[float] | None = None,
    cases: Sequence[str] | None = None,
    columns: Mapping[str, Sequence[Any]] | None = None,
) -> MultiLabelResult:
    """Metrics of a multi-label classifier over all its cases.

    A class of which all cases have the same label is not scored: it is named in ``skipped``, and all averages, hamming
    and exact match leave it out. A class that was never predicted has precision 0, as in scikit-learn.

    Args:
        probabilities: (N, C), 0..1.
        labels: (N, C) of 0 and 1.
        class_names: C names.
        thresholds: C least probabilities at which a class is predicted, such as those of `choose_thresholds`; ``None``
            for decisions at 0.5 only.
        cases: N names of the cases.
        columns: name → N values, further columns for the prediction file.

    Raises:
        DataError: for wrong shapes, no cases, labels other than 0 and 1, wrong thresholds, or names or columns of
            another length.
    """
    names = [str(name) for name in class_names]
    scores, truth = _checked(probabilities, labels, len(names))
    for what, values in {"case names": cases, **{f"column {n!r}": v for n, v in (columns or {}).items()}}.items():
        if values is not None and len(values) != len(truth):
            raise DataError(f"multi_label_metrics: expected {len(truth)} values for {what}, got {len(values)}")
    cuts = None if thresholds is None else _checked_thresholds(thresholds, len(names))
    case_names = [str(case) for case in cases or []]
    support = truth.sum(axis=0)
    skipped = [
        f"class {name}: all {len(truth)} cases are {'positive' if count else 'negative'}; it has no scores, and "
        "averages, hamming and exact_match leave it out"
        for name, count in zip(names, support, strict=True)
        if count in (0, len(truth))
    ]

    broken = np.flatnonzero(~np.isfinite(scores).all(axis=1))
    if broken.size:
        first = f", first {case_names[broken[0]]}" if case_names else ""
        skipped = [f"all metrics: the outputs of {broken.size} of {len(truth)} cases are not finite{first}"]
        by_class = {name: np.full((1, len(names)), np.nan) for name in class_score_names(cuts is not None)}
        overall = {name: np.array([np.nan]) for name in overall_score_names(cuts is not None)}
    else:
        by_class, overall = LabelScores(scores, truth, cuts)(np.ones((1, len(truth))))
    return MultiLabelResult(
        class_names=names,
        metrics={name: _known(values[0]) for name, values in overall.items()},
        per_class={
            name: {metric: _known(values[0, number]) for metric, values in by_class.items()}
            | {"support": int(support[number])}
            | ({} if cuts is None else {"threshold": cuts[number]})
            for number, name in enumerate(names)
        },
        thresholds=cuts,
        skipped=skipped,
        cases=case_names,
        columns={name: list(values) for name, values in (columns or {}).items()},
        probabilities=scores,
        labels=truth,
    )


def merge_label_parts(
    parts: MultiLabelResult, how: str = "mean", thresholds: Sequence[float] | None = None
) -> MultiLabelResult:
    """Multi-label metrics of the cases that instances belong to, for example of volumes from their slices.

    Args:
        parts: one row per instance; ``cases`` has the case of each.
        how: ``"mean"`` or, for each class, ``"max"`` of the instances' probabilities is the case's.
        thresholds: of the cases, see `multi_label_metrics`; those of the instances don't fit.

    Returns:
        Result with one row per case, in the order of their first instances.

    Raises:
        ConfigError: for another ``how``.
        DataError: when the instances of a case have different labels, or for wrong thresholds.
    """
    if how not in MERGES:
        raise ConfigError(f"merge_label_parts: how must be one of {', '.join(MERGES)}, got {how!r}")
    merge = mean_by_case if how == "mean" else max_by_case
    names, probabilities = merge(parts.cases, parts.probabilities)
    positives = [
        tuple(name for name, present in zip(parts.class_names, row, strict=True) if present) for row in parts.labels
    ]
    label_of = label_by_case(parts.cases, positives)
    labels = [[name in label_of[case] for name in parts.class_names] for case in names]
    columns = patient_column(parts.cases, parts.columns)
    return multi_label_metrics(probabilities, labels, parts.class_names, thresholds, names, columns)


def choose_thresholds(probabilities: ArrayLike, labels: ArrayLike) -> list[float]:
    """The threshold of each class with the best F1 on these cases, which should be validation cases.

    See `best_threshold`. A class of which all cases have the same label gets 0.5.

    Args:
        probabilities: (N, C), 0..1.
        labels: (N, C) of 0 and 1.

    Returns:
        C thresholds.

    Raises:
        DataError: for wrong shapes or values, or no cases.
    """
    scores, truth = _checked(probabilities, labels, np.shape(probabilities)[-1] if np.ndim(probabilities) else 0)
    return [
        0.5 if column.all() or not column.any() else best_threshold(score, column, "f1")
        for score, column in zip(scores.T, truth.T, strict=True)
    ]


def with_thresholds(result: MultiLabelResult) -> MultiLabelResult:
    """The result with thresholds, its own or the best ones for its cases; unchanged where outputs aren't finite."""
    if result.thresholds is not None or not np.isfinite(result.probabilities).all():
        return result
    chosen = choose_thresholds(result.probabilities, result.labels)
    return multi_label_metrics(
        result.probabilities, result.labels, result.class_names, chosen, result.cases or None, result.columns
    )


def _checked(probabilities: ArrayLike, labels: ArrayLike, count: int) -> tuple[FloatArray, BoolArray]:
    scores, truth = to_numpy(probabilities, np.float64), to_numpy(labels)
    if scores.ndim != 2 or scores.shape[1] != count or truth.shape != scores.shape or not count:
        raise DataError(
            f"multi-label: expected probabilities and labels (N, {count}), one column per class, got {scores.shape} "
            f"and {truth.shape}"
        )
    if not len(truth):
        raise DataError("multi-label: there are no cases")
    if not np.isin(truth, (0, 1)).all():
        raise DataError(f"multi-label: labels must be 0 or 1, got {np.unique(truth)}")
    # A comparison with NaN is false; values that aren't finite are reported later.
    if (scores < 0).any() or (scores > 1).any():
        raise DataError("multi-label: probabilities must be in 0..1; apply a sigmoid to logits first")
    return scores, truth.astype(bool)


def _checked_thresholds(thresholds: Sequence[float], count: int) -> list[float]:
    values = [float(value) for value in thresholds]
    if len(values) != count or not all(0 <= value <= 1 for value in values):
        raise DataError(f"thresholds must be {count} numbers in 0..1, one for each class, got {values}")
    return values


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
