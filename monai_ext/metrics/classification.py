"""Metrics of a classifier over all cases, on scikit-learn; metrics that can't be computed are ``None``, not 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import classification_report, confusion_matrix, precision_recall_fscore_support

from monai_ext.arrays import to_numpy
from monai_ext.errors import DataError
from monai_ext.metrics.weighted import FloatArray, Ranking, precision_recall_f1

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Mistakes:
    """One kind of mistake of a binary classifier.

    Args:
        description: for example ``"false negatives (missed HGG)"``.
        count: number of cases.
        cases: names of these cases, in their order; empty when names are unknown.
    """

    description: str
    count: int
    cases: list[str]


@dataclass(frozen=True)
class ClassificationResult:
    """Result of `classification_metrics`. ``None`` represents "not computable"; ``skipped`` has the reasons.

    Args:
        class_names: C names in the order of the probability columns.
        metrics: name → value in 0..1: accuracy, top2_accuracy (more than two classes), precision, recall, f1,
            f1_weighted, auc.
        per_class: name → precision, recall, f1, auroc (one against the rest) in 0..1, and support in cases.
        confusion_matrix: counts, rows = true class, columns = predicted class; empty where outputs aren't finite.
        false_negatives: mistakes on the positive class; ``None`` with more than two classes.
        false_positives: mistakes on the other class; ``None`` with more than two classes.
        skipped: one sentence for each metric that could not be computed.
        cases: N names of the cases; empty when unknown. Instances of one case (crops of a nucleus) have its name.
        columns: further columns of the prediction file, name → N values, which distinguish instances.
        probabilities: (N, C) float64, 0..1.
        labels: (N,) int64, from 0.
    """

    class_names: list[str]
    metrics: dict[str, float | None]
    per_class: dict[str, dict[str, float | int | None]]
    confusion_matrix: list[list[int]]
    false_negatives: Mistakes | None = None
    false_positives: Mistakes | None = None
    skipped: list[str] = field(default_factory=list)
    cases: list[str] = field(default_factory=list)
    columns: dict[str, list[Any]] = field(default_factory=dict)
    probabilities: FloatArray = field(default_factory=lambda: np.empty((0, 0)))
    labels: IntArray = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    @property
    def predictions(self) -> IntArray:
        """(N,) predicted class indices: the class with the highest probability, the first one of a tie."""
        return np.argmax(self.probabilities, axis=1)

    @property
    def confusion_matrix_normalised(self) -> list[list[float | None]]:
        """Fractions of each true class, so that rows sum to 1; ``None`` in the row of a class without cases."""
        return [[count / sum(row) if any(row) else None for count in row] for row in self.confusion_matrix]

    def to_dict(self) -> dict[str, Any]:
        """All fields except arrays, case names and columns, ready for ``metrics.json``."""
        content = asdict(self)
        for name in ("cases", "columns", "probabilities", "labels"):
            del content[name]
        return {**content, "confusion_matrix_normalised": self.confusion_matrix_normalised}

    def rows(self) -> list[dict[str, Any]]:
        """One row per case, as in prediction files: case, ``columns``, prob_<class> …, prediction, label (names)."""
        names = self.cases or [str(number) for number in range(len(self.labels))]
        return [
            {"case": case}
            | {name: values[number] for name, values in self.columns.items()}
            | {f"prob_{name}": float(value) for name, value in zip(self.class_names, row, strict=True)}
            | {"prediction": self.class_names[predicted], "label": self.class_names[label]}
            for number, (case, row, predicted, label) in enumerate(
                zip(names, self.probabilities, self.predictions, self.labels, strict=True)
            )
        ]

    def report(self) -> str | None:
        """scikit-learn's ``classification_report`` over all classes; ``None`` when nothing could be computed."""
        if not self.confusion_matrix:
            return None
        text: str = classification_report(
            self.labels,
            self.predictions,
            labels=range(len(self.class_names)),
            target_names=self.class_names,
            digits=4,
            zero_division=0,
        )
        if all(any(row) for row in self.confusion_matrix):
            return text
        return f"{text}\nClasses without cases enter this macro average with 0; metrics.json leaves them out.\n"


def scalar_names(classes: int) -> list[str]:
    """Names of the scalar metrics of `classification_metrics` for this number of classes.

    Top-2 accuracy, the fraction of cases whose true class is among the two most probable, is 1 for two classes and left
    out there. ``precision``, ``recall`` and ``f1`` are means over the classes (macro), ``f1_weighted`` counts each
    class by its cases; the micro average of all three is the accuracy.
    """
    return [
        "accuracy",
        *(["top2_accuracy"] if classes > 2 else []),
        "precision",
        "recall",
        "f1",
        "f1_weighted",
        "auc",
    ]


def classification_metrics(
    probabilities: ArrayLike,
    labels: ArrayLike,
    class_names: Sequence[str],
    positive: str | None = None,
    cases: Sequence[str] | None = None,
    columns: Mapping[str, Sequence[Any]] | None = None,
) -> ClassificationResult:
    """Metrics of a single-label classifier over all its cases.

    The predicted class is the one with the highest probability. Macro averages (and the one-against-rest AUC of
    more than two classes) run over the classes that have cases; a class without any is named in ``skipped``.
    A class that was never predicted has precision 0, as in scikit-learn.

    Args:
        probabilities: (N, C), 0..1, rows sum to 1.
        labels: (N,) class indices, from 0.
        class_names: C names, two or more.
        positive: the positive class of false negatives and positives, for two classes; default: the last.
        cases: N names, for the list of mistakes.
        columns: name → N values, further columns for the prediction file.

    Raises:
        DataError: for wrong shapes, no cases, labels out of range, an unknown positive class, or names or columns of
            another length.
    """
    names = [str(name) for name in class_names]
    scores, truth = _checked(probabilities, labels, len(names))
    if positive is not None and positive not in names:
        raise DataError(f"classification_metrics: positive must be one of {names}, got {positive!r}")
    if cases is not None and len(cases) != len(truth):
        raise DataError(f"classification_metrics: expected {len(truth)} case names, got {len(cases)}")
    for name, values in (columns or {}).items():
        if len(values) != len(truth):
            raise DataError(
                f"classification_metrics: expected {len(truth)} values in column {name!r}, got {len(values)}"
            )
    case_names = [str(case) for case in cases or []]
    common: dict[str, Any] = {
        "class_names": names,
        "cases": case_names,
        "columns": {name: list(values) for name, values in (columns or {}).items()},
        "probabilities": scores,
        "labels": truth,
    }

    broken = np.flatnonzero(~np.isfinite(scores).all(axis=1))
    if broken.size:
        first = f", first {case_names[broken[0]]}" if case_names else ""
        reason = f"all metrics: the outputs of {broken.size} of {len(truth)} cases are not finite{first}"
        return ClassificationResult(
            metrics=dict.fromkeys(scalar_names(len(names))),
            per_class={},
            confusion_matrix=[],
            skipped=[reason],
            **common,
        )

    predictions = scores.argmax(axis=1)
    indices = np.arange(len(names))
    matrix = confusion_matrix(truth, predictions, labels=indices)
    precision, recall, f1, support = precision_recall_fscore_support(
        truth, predictions, labels=indices, zero_division=0
    )
    once = np.ones((1, len(truth)))
    per_class: dict[str, dict[str, float | int | None]] = {}
    for index, name in enumerate(names):
        present = support[index] > 0
        per_class[name] = {
            "precision": float(precision[index]) if present else None,
            "recall": float(recall[index]) if present else None,
            "f1": float(f1[index]) if present else None,
            "support": int(support[index]),
            "auroc": _number(_area(scores, truth, once, index)),
        }
    missed = wrong = None
    if len(names) == 2:
        missed, wrong = _mistakes(names, names.index(positive or names[-1]), truth, predictions, case_names)
    return ClassificationResult(
        metrics={name: _number(found) for name, found in scalar_metrics(scores, truth, once).items()},
        per_class=per_class,
        confusion_matrix=matrix.tolist(),
        false_negatives=missed,
        false_positives=wrong,
        skipped=_what_is_missing(names, support),
        **common,
    )


def scalar_metrics(probabilities: FloatArray, labels: IntArray, counts: FloatArray) -> dict[str, FloatArray]:
    """The single numbers of `classification_metrics` of R samples of the cases, see `resampled_metrics`.

    Args:
        probabilities: (N, C).
        labels: (N,) class indices, base 0.
        counts: (R, N) how often each case is in each sample.

    Returns:
        for each of `scalar_names` (R,); NaN where not computable.
    """
    return resampled_metrics(probabilities, labels, counts)[0]


def resampled_metrics(
    probabilities: FloatArray, labels: IntArray, counts: FloatArray
) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
    """Metrics of R samples of the cases, for arrays that are known to be valid.

    No sample is built: ranks are sorted out once, which makes a bootstrap much faster.

    Args:
        probabilities: (N, C).
        labels: (N,) class indices, base 0.
        counts: (R, N) how often each case is in each sample; every class of ``labels`` is in each of them.

    Returns:
        for each of `scalar_names` (R,), and ``f1`` and ``auroc`` of the classes that have cases, (R, classes); NaN
        where not computable.
    """
    classes = np.unique(labels)
    predicted = probabilities.argmax(axis=1)[:, None] == classes
    truth = labels[:, None] == classes
    total, support = counts.sum(axis=1), counts @ truth
    hits, false, missed = (counts @ found for found in (predicted & truth, predicted & ~truth, ~predicted & truth))
    decided = precision_recall_f1(hits, false, missed)
    # Stable, so that a tie goes to the first class, as in argmax; scikit-learn's top_k_accuracy_score takes the last.
    two_best = np.argsort(-probabilities, axis=1, kind="stable")[:, :2]
    # With two classes the area of one against the rest is that of the other.
    columns = [1] if probabilities.shape[1] == 2 else [int(index) for index in classes]
    areas = np.stack([_area(probabilities, labels, counts, column) for column in columns], axis=1)
    values = {
        "accuracy": hits.sum(axis=1) / total,
        "top2_accuracy": counts @ (two_best == labels[:, None]).any(axis=1) / total,
        **{name: found.mean(axis=1) for name, found in decided.items()},
        "f1_weighted": (decided["f1"] * support).sum(axis=1) / total,
        "auc": np.mean(areas, axis=1),
    }
    of_classes = {"f1": decided["f1"], "auroc": np.broadcast_to(areas, decided["f1"].shape)}
    return {name: values[name] for name in scalar_names(probabilities.shape[1])}, of_classes


def _checked(probabilities: ArrayLike, labels: ArrayLike, count: int) -> tuple[FloatArray, IntArray]:
    scores, truth = to_numpy(probabilities, np.float64), to_numpy(labels)
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


def _number(found: FloatArray) -> float | None:
    """The one number of (1,), ``None`` for NaN."""
    return float(found[0]) if np.isfinite(found[0]) else None


def _area(scores: FloatArray, labels: IntArray, counts: FloatArray, column: int) -> FloatArray:
    """(R,) ROC AUC of a class against the rest; NaN when only one of the two sides has cases."""
    return Ranking(scores[:, column], labels == column, np.arange(len(labels))).areas(counts)[0]


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
