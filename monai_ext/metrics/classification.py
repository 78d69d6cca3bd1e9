"""Metrics of a classifier over a whole set of cases, on scikit-learn; what can't be computed is said, not zero."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, roc_auc_score

from monai_ext.errors import DataError

SCALARS = ("accuracy", "precision", "recall", "f1", "auc")

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Mistakes:
    """One kind of error of a binary classifier, by name.

    Attributes:
        description: for example ``"false negatives (missed HGG)"``.
        count: number of cases.
        cases: their names in the order given; empty when no names were given.
    """

    description: str
    count: int
    cases: list[str]


@dataclass(frozen=True)
class ClassificationResult:
    """What `classification_metrics` found. ``None`` stands for "not computable"; `skipped` says why.

    Attributes:
        class_names: names in the order of the probability columns.
        metrics: accuracy, macro precision, recall and F1, auc, all in 0..1.
        per_class: name → precision, recall, f1, auroc (one against the rest) in 0..1, and support in cases.
        confusion_matrix: counts, rows = true class, columns = predicted class.
        false_negatives, false_positives: mistakes about the positive class; ``None`` with more than two classes.
        skipped: one sentence for each thing that could not be computed.
        cases: names of the cases, if known.
        probabilities: (N, C) float64.
        labels: (N,) int64, base 0.
    """

    class_names: list[str]
    metrics: dict[str, float | None]
    per_class: dict[str, dict[str, float | int | None]]
    confusion_matrix: list[list[int]]
    false_negatives: Mistakes | None = None
    false_positives: Mistakes | None = None
    skipped: list[str] = field(default_factory=list)
    cases: list[str] = field(default_factory=list)
    probabilities: FloatArray = field(default_factory=lambda: np.empty((0, 0)))
    labels: IntArray = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    @property
    def predictions(self) -> IntArray:
        """(N,) predicted class indices: the class of the highest probability, the first one at a tie."""
        return np.argmax(self.probabilities, axis=1)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the arrays and the case list, ready for ``metrics.json``."""
        content = asdict(self)
        for name in ("cases", "probabilities", "labels"):
            del content[name]
        return content

    def rows(self) -> list[dict[str, Any]]:
        """One row a case as the prediction files have it: case, prob_<class> …, prediction, label (names)."""
        names = self.cases or [str(number) for number in range(len(self.labels))]
        return [
            {"case": case}
            | {f"prob_{name}": float(value) for name, value in zip(self.class_names, row, strict=True)}
            | {"prediction": self.class_names[predicted], "label": self.class_names[label]}
            for case, row, predicted, label in zip(
                names, self.probabilities, self.predictions, self.labels, strict=True
            )
        ]


def classification_metrics(
    probabilities: ArrayLike,
    labels: ArrayLike,
    class_names: Sequence[str],
    positive: str | None = None,
    cases: Sequence[str] | None = None,
) -> ClassificationResult:
    """Metrics of a single-label classifier over all its cases.

    The predicted class is the one with the highest probability. Macro averages (and the one-against-rest AUC of
    more than two classes) run over the classes that have cases; a class without any is named in ``skipped``.
    A class that was never predicted has precision 0, as in scikit-learn.

    Args:
        probabilities: (N, C), rows sum to 1.
        labels: (N,) class indices, base 0.
        class_names: C names.
        positive: the class that false negatives and positives of two classes are about; default: the last.
        cases: N names, for the list of mistakes.

    Raises:
        DataError: for wrong shapes, no cases, labels out of range, or an unknown positive class.
    """
    names = [str(name) for name in class_names]
    scores, truth = _checked(probabilities, labels, len(names))
    if positive is not None and positive not in names:
        raise DataError(f"classification_metrics: positive must be one of {names}, got {positive!r}")
    if cases is not None and len(cases) != len(truth):
        raise DataError(f"classification_metrics: expected {len(truth)} case names, got {len(cases)}")
    case_names = [str(case) for case in cases or []]
    common: dict[str, Any] = {"class_names": names, "cases": case_names, "probabilities": scores, "labels": truth}

    broken = np.flatnonzero(~np.isfinite(scores).all(axis=1))
    if broken.size:
        first = f", first {case_names[broken[0]]}" if case_names else ""
        reason = f"all metrics: the outputs of {broken.size} of {len(truth)} cases are not finite{first}"
        return ClassificationResult(
            metrics=dict.fromkeys(SCALARS), per_class={}, confusion_matrix=[], skipped=[reason], **common
        )

    predictions = scores.argmax(axis=1)
    indices = np.arange(len(names))
    matrix = confusion_matrix(truth, predictions, labels=indices)
    precision, recall, f1, support = precision_recall_fscore_support(
        truth, predictions, labels=indices, zero_division=0
    )
    per_class: dict[str, dict[str, float | int | None]] = {}
    for index, name in enumerate(names):
        present = support[index] > 0
        per_class[name] = {
            "precision": float(precision[index]) if present else None,
            "recall": float(recall[index]) if present else None,
            "f1": float(f1[index]) if present else None,
            "support": int(support[index]),
            "auroc": _auc_of(scores, truth, index),
        }
    missed = wrong = None
    if len(names) == 2:
        missed, wrong = _mistakes(names, names.index(positive or names[-1]), truth, predictions, case_names)
    return ClassificationResult(
        metrics=scalar_metrics(scores, truth),
        per_class=per_class,
        confusion_matrix=matrix.tolist(),
        false_negatives=missed,
        false_positives=wrong,
        skipped=_what_is_missing(names, support),
        **common,
    )


def scalar_metrics(probabilities: FloatArray, labels: IntArray) -> dict[str, float | None]:
    """The single numbers of `classification_metrics` for arrays that are known to be valid."""
    classes = np.unique(labels)
    predictions = probabilities.argmax(axis=1)
    precision, recall, f1, _ = precision_recall_fscore_support(
        labels, predictions, labels=classes, average="macro", zero_division=0
    )
    # With two classes the area of one against the rest is that of the other.
    columns = [1] if probabilities.shape[1] == 2 else [int(index) for index in classes]
    areas = [_auc_of(probabilities, labels, column) for column in columns]
    known = [area for area in areas if area is not None]
    return {
        "accuracy": float(np.mean(predictions == labels)),
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
        "auc": float(np.mean(known)) if known else None,
    }


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


def _bootstrap(
    metrics_fn: Callable[[FloatArray, IntArray], dict[str, float | None]],
    probabilities: ArrayLike,
    labels: ArrayLike,
    level: float,
    n: int,
    seed: int,
) -> dict[str, tuple[float, float]]:
    if not 0 < level < 1 or n < 1:
        raise ValueError(f"bootstrap: level must be within 0..1 and n at least 1, got level={level} and n={n}")
    scores, truth = np.asarray(probabilities, dtype=np.float64), np.asarray(labels).astype(np.int64)
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


def _checked(probabilities: ArrayLike, labels: ArrayLike, count: int) -> tuple[FloatArray, IntArray]:
    scores, truth = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
    if scores.ndim != 2 or scores.shape[1] != count or truth.shape != scores.shape[:1] or count < 2:
        raise DataError(
            f"classification_metrics: expected probabilities (N, {count}) for {count} class names (2 or more) and "
            f"labels (N,), got {scores.shape} and {truth.shape}"
        )
    if not truth.size:
        raise DataError("classification_metrics: there are no cases")
    whole = truth.astype(np.int64)
    if (whole != truth).any() or whole.min() < 0 or whole.max() >= count:
        raise DataError(f"classification_metrics: labels must be integers in 0..{count - 1}, got {np.unique(truth)}")
    return scores, whole


def _auc_of(scores: FloatArray, labels: IntArray, index: int) -> float | None:
    """ROC AUC of one class against the rest; ``None`` when only one of the two sides has cases."""
    hits = labels == index
    return float(roc_auc_score(hits, scores[:, index])) if 0 < hits.sum() < hits.size else None


def _what_is_missing(names: list[str], support: IntArray) -> list[str]:
    present = [name for name, count in zip(names, support, strict=True) if count]
    absent = [name for name, count in zip(names, support, strict=True) if not count]
    if len(present) == 1:
        total = int(support.sum())
        return [f"auc: the validation set holds only class {present[0]} ({total} case{'s' * (total != 1)})"]
    return [f"precision, recall, f1 and auroc of class {name}: no case of it; averages leave it out" for name in absent]


def _mistakes(
    names: list[str], positive: int, labels: IntArray, predictions: IntArray, cases: list[str]
) -> tuple[Mistakes, Mistakes]:
    missed = np.flatnonzero((labels == positive) & (predictions != positive))
    wrong = np.flatnonzero((labels != positive) & (predictions == positive))

    def named(description: str, found: IntArray) -> Mistakes:
        return Mistakes(description, int(found.size), [cases[index] for index in found] if cases else [])

    return (
        named(f"false negatives (missed {names[positive]})", missed),
        named(f"false positives ({names[1 - positive]} taken for {names[positive]})", wrong),
    )
