"""Figures of a classifier: confusion matrices, ROC, precision and recall, calibration."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from monai_ext.arrays import to_numpy
from monai_ext.metrics.classification import ClassificationResult
from monai_ext.pages.style import COLOURS, line_style, new_axes, place_legend, plot_width, shorten, text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ALTERNATIVES = {
    "confusion_matrix": "Confusion matrix, the same numbers as in the table",
    "confusion_matrix_normalised": "Confusion matrix in per cent of each true class",
    "roc": "ROC curves, true positive rate over false positive rate",
    "precision_recall": "Precision over recall",
    "calibration": "Observed frequency over predicted probability",
}


def figures(result: ClassificationResult) -> dict[str, Figure]:
    """All figures of a result, by file name without suffix; none where outputs aren't finite."""
    if not result.confusion_matrix:
        return {}
    drawn = {"confusion_matrix": confusion_matrix(result.confusion_matrix, result.class_names)}
    if len(result.class_names) > 2:
        fractions = confusion_matrix_normalised(result.confusion_matrix_normalised, result.class_names)
        drawn["confusion_matrix_normalised"] = fractions
    if len(np.unique(result.labels)) > 1:
        curves = (result.probabilities, result.labels, result.class_names)
        drawn |= {
            "roc": roc(*curves),
            "precision_recall": precision_recall(*curves),
            "calibration": calibration(*curves),
        }
    return drawn


def confusion_matrix(matrix: Sequence[Sequence[int]], class_names: Sequence[str]) -> Figure:
    """Counts in the cells; the colours, and the percentages for two classes, are fractions of the true class."""
    counts = np.asarray(matrix, dtype=np.float64)
    total = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)
    texts = [[f"{count:.0f}" for count in row] for row in counts]
    if len(class_names) == 2:
        texts = [
            [f"{text}\n{part:.0%}" if known else text for text, part in zip(row, parts, strict=True)]
            for row, parts, known in zip(texts, share, total[:, 0] > 0, strict=True)
        ]
    return _matrix_figure("Confusion matrix", share, texts, class_names)


def confusion_matrix_normalised(matrix: Sequence[Sequence[float | None]], class_names: Sequence[str]) -> Figure:
    """Percentages of each true class; the cells of a class without cases stay empty."""
    share = np.array(matrix, dtype=np.float64)
    texts = [["" if np.isnan(part) else f"{100 * part:.0f}" for part in row] for row in share]
    return _matrix_figure("Confusion matrix, % of the true class", np.nan_to_num(share), texts, class_names)


def roc(probabilities: ArrayLike, labels: ArrayLike, class_names: Sequence[str]) -> Figure:
    """ROC curve of the last of two classes, or of each class against the rest."""
    from sklearn.metrics import RocCurveDisplay, roc_auc_score

    figure, axes = _curve_axes("ROC", class_names)
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle=":")
    for index, (name, truth, scores) in enumerate(_one_against_rest(probabilities, labels, class_names)):
        label = f"{shorten(name)} (AUC {roc_auc_score(truth, scores):.3f})"
        RocCurveDisplay.from_predictions(truth, scores, ax=axes, curve_kwargs={**line_style(index), "label": label})
    _finish(axes, "false positive rate", "true positive rate", "lower right")
    return figure


def precision_recall(probabilities: ArrayLike, labels: ArrayLike, class_names: Sequence[str]) -> Figure:
    """Precision over recall, as `roc`; the dotted lines are the prevalences (the no-skill baseline)."""
    from sklearn.metrics import PrecisionRecallDisplay, average_precision_score

    figure, axes = _curve_axes("Precision and recall", class_names)
    for index, (name, truth, scores) in enumerate(_one_against_rest(probabilities, labels, class_names)):
        label = f"{shorten(name)} (average {average_precision_score(truth, scores):.3f})"
        axes.axhline(truth.mean(), color=COLOURS[index % len(COLOURS)], linewidth=1, linestyle=":")
        style = {**line_style(index), "drawstyle": "steps-post", "label": label}
        PrecisionRecallDisplay.from_predictions(truth, scores, ax=axes, curve_kwargs=style)
    _finish(axes, "recall", "precision", "lower left")
    return figure


def calibration(probabilities: ArrayLike, labels: ArrayLike, class_names: Sequence[str]) -> Figure:
    """Observed frequency over predicted probability, with the Brier score.

    The ticks below are the cases; of more than three classes there would be too many.
    """
    from sklearn.calibration import CalibrationDisplay
    from sklearn.metrics import brier_score_loss

    figure, axes = _curve_axes("Calibration", class_names)
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle=":")
    for index, (name, truth, scores) in enumerate(_one_against_rest(probabilities, labels, class_names)):
        label = f"{shorten(name)} (Brier {brier_score_loss(truth, scores):.3f})"
        style = {**line_style(index), "marker": "o", "label": label}
        CalibrationDisplay.from_predictions(
            truth, scores, n_bins=calibration_bins(len(truth)), ax=axes, ref_line=False, **style
        )
        if len(class_names) < 4:
            rug = np.full(len(scores), -0.03 - 0.012 * (index % 2))
            axes.plot(scores, rug, "|", color=COLOURS[index % len(COLOURS)], markersize=5, alpha=0.5)
    _finish(axes, "predicted probability", "observed frequency", "upper left")
    axes.set(ylim=(-0.06, 1.02))
    return figure


def calibration_bins(cases: int) -> int:
    """About ten cases per bin, else the curve is mostly noise."""
    return int(np.clip(cases // 10, 3, 10))


def _curve_axes(title: str, class_names: Sequence[str]) -> tuple[Figure, Axes]:
    return new_axes(title, "", "", width=plot_width(class_names), height=5)


def _finish(axes: Axes, xlabel: str, ylabel: str, place: Any) -> None:
    """Set again limits, labels and legend, which scikit-learn's displays change."""
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal", xlabel=xlabel, ylabel=ylabel)
    place_legend(axes, place)


def _matrix_figure(title: str, share: np.ndarray, texts: Sequence[Sequence[str]], class_names: Sequence[str]) -> Figure:
    names = [shorten(name) for name in class_names]
    cell = max(0.42, 2.6 / len(names))
    side, beside = cell * len(names), text_width(names)
    upright = beside > cell
    figure, axes = new_axes(
        title, "predicted", "true", width=side + beside + 2.3, height=side + (beside if upright else 0.2) + 0.9
    )
    axes.grid(False)
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=90 if upright else 0)
    axes.set_yticks(range(len(names)), names)
    for (row, column), part in np.ndenumerate(share):
        text = texts[row][column]
        colour = "white" if part > 0.5 else "0.6" if text == "0" else "black"
        axes.text(column, row, text, ha="center", va="center", color=colour)
    figure.colorbar(image, ax=axes, label="fraction of the true class", fraction=0.046)
    return figure


def _one_against_rest(
    probabilities: ArrayLike, labels: ArrayLike, class_names: Sequence[str]
) -> Iterable[tuple[str, np.ndarray, np.ndarray]]:
    scores, truth = to_numpy(probabilities, np.float64), to_numpy(labels)
    for index in range(len(class_names)) if len(class_names) > 2 else [1]:
        hits = (truth == index).astype(np.int64)
        if 0 < hits.sum() < hits.size:
            yield str(class_names[index]), hits, scores[:, index]
