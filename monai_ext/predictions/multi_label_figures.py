"""Figures of multi-label predictions: one small panel per class, as 18 curves in one axes can't be distinguished.

Classes of which all cases have the same label have no curves, and no panel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from monai_ext.metrics.multi_label import MultiLabelResult
from monai_ext.pages.style import COLOURS, dress, line_style, new_axes, plain, shorten, text_width
from monai_ext.predictions.classification_figures import ALTERNATIVES as _CURVES
from monai_ext.predictions.classification_figures import calibration_bins

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 5
_SIZE = 2.35
_LONGEST = 34
_LABELLED, _PREDICTED = COLOURS[0], COLOURS[1]


ALTERNATIVES = {
    "prevalence": "How often each label is given and predicted, in per cent of the cases",
    **{name: _CURVES[name] for name in ("roc", "precision_recall", "calibration")},
}


def figures(result: MultiLabelResult, cases: str | None = None) -> dict[str, Figure]:
    """All figures of a result, by file name without suffix; none where outputs aren't finite.

    Args:
        result: of the cases.
        cases: name of the cases, such as ``"volumes"``.
    """
    if not np.isfinite(result.probabilities).all():
        return {}
    drawn = {"prevalence": prevalence(result, cases)}
    if _scored(result):
        drawn |= {"roc": roc(result), "precision_recall": precision_recall(result), "calibration": calibration(result)}
    return drawn


def roc(result: MultiLabelResult) -> Figure:
    """ROC curve of each class with the area below it; a dot where its threshold is."""
    from sklearn.metrics import RocCurveDisplay

    heads = _heads(result, "auroc", "AUROC")
    title = "ROC (dots: at the threshold)"
    figure, panels = _panels(result, title, "false positive rate", "true positive rate", heads)
    for axes, (number, truth, scores) in zip(panels, _scored(result), strict=True):
        axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle=":")
        RocCurveDisplay.from_predictions(truth, scores, ax=axes, curve_kwargs={**line_style(0), "label": None})
        _undress(axes)
        predicted = result.predictions[:, number]
        _dot(axes, predicted[~truth].mean(), predicted[truth].mean())
    return figure


def precision_recall(result: MultiLabelResult) -> Figure:
    """Precision over recall of each class with the average; a dot where its threshold is, dotted the no-skill
    baseline.
    """
    from sklearn.metrics import PrecisionRecallDisplay, precision_recall_curve

    heads = _heads(result, "average_precision", "average")
    title = "Precision and recall (dots: at the threshold)"
    figure, panels = _panels(result, title, "recall", "precision", heads)
    for axes, (number, truth, scores) in zip(panels, _scored(result), strict=True):
        axes.axhline(truth.mean(), color="0.6", linewidth=1, linestyle=":")
        precision, recall, _ = precision_recall_curve(truth, scores)
        style = {**line_style(0), "drawstyle": "steps-post", "label": None}
        # the last point is none of the data, but scikit-learn's precision of 1 where nothing is predicted
        PrecisionRecallDisplay(precision[:-1], recall[:-1]).plot(axes, curve_kwargs=style)
        _undress(axes)
        predicted = result.predictions[:, number]
        if predicted.any():
            _dot(axes, predicted[truth].mean(), truth[predicted].mean())
    return figure


def calibration(result: MultiLabelResult) -> Figure:
    """Observed frequency over predicted probability and Brier score, of all classes together, then of each."""
    brier = ((result.probabilities - result.labels) ** 2).mean(axis=0)
    heads = [("all classes", f"Brier {brier.mean():.3f}")]
    heads += [
        (shorten(result.class_names[number], _LONGEST), f"Brier {brier[number]:.3f}")
        for number, _, _ in _scored(result)
    ]
    figure, (pooled, *panels) = _panels(result, "Calibration", "predicted probability", "observed frequency", heads)
    _reliability(pooled, result.labels.ravel(), result.probabilities.ravel(), len(result.labels))
    for axes, (_, truth, scores) in zip(panels, _scored(result), strict=True):
        _reliability(axes, truth, scores, len(truth))
    return figure


def prevalence(result: MultiLabelResult, cases: str | None = None) -> Figure:
    """Percentage of the cases that have each label, and of those for which it is predicted."""
    names = [shorten(name, _LONGEST) for name in result.class_names]
    figure, axes = new_axes(
        f"How often each label is given and predicted ({len(result.labels)} {plain(cases or 'cases')})",
        f"% of the {cases or 'cases'}",
        "",
        width=6.2 + text_width(names),
        height=1.4 + 0.34 * len(names),
    )
    places = np.arange(len(names))
    for offset, values, label, colour in (
        (-0.2, result.labels, "labelled", _LABELLED),
        (0.2, result.predictions, "predicted at the threshold", _PREDICTED),
    ):
        bars = axes.barh(places + offset, 100 * values.mean(axis=0), 0.38, color=colour, label=label)
        axes.bar_label(bars, fmt="%.0f", padding=2, fontsize="x-small")
    axes.set_yticks(places, names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(False, axis="y")
    axes.margins(x=0.08)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def _panels(
    result: MultiLabelResult, title: str, xlabel: str, ylabel: str, heads: Sequence[tuple[str, str]]
) -> tuple[Figure, list[Axes]]:
    """Square axes from 0 to 1 under each title, with axis labels and the number of missing classes once."""
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, len(heads))
    rows = math.ceil(len(heads) / columns)
    figure = Figure(figsize=(_SIZE * columns + 0.5, (_SIZE + 0.3) * rows + 0.6), layout="constrained")
    figure.suptitle(plain(title), x=0.01, ha="left", fontweight="bold")
    missing = len(result.class_names) - len(_scored(result))
    note = f"\nnot drawn: {missing} with one label value only" if missing else ""
    figure.supxlabel(xlabel + note, fontsize="medium")
    figure.supylabel(ylabel, fontsize="medium")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (name, value) in zip(grid, heads, strict=False):
        dress(axes)
        axes.set_title(f"{name}\n{value}", loc="left", fontsize="small")
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal", xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        axes.tick_params(labelsize="x-small")
    for axes in grid[len(heads) :]:
        axes.set_axis_off()
    return figure, list(grid[: len(heads)])


def _heads(result: MultiLabelResult, metric: str, label: str) -> list[tuple[str, str]]:
    names = [result.class_names[number] for number, _, _ in _scored(result)]
    return [(shorten(name, _LONGEST), f"{label} {result.per_class[name][metric]:.3f}") for name in names]


def _scored(result: MultiLabelResult) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """Number, labels and probabilities of each class with both values."""
    return [
        (number, truth, scores)
        for number, (truth, scores) in enumerate(zip(result.labels.T, result.probabilities.T, strict=True))
        if 0 < truth.sum() < len(truth)
    ]


def _reliability(axes: Axes, truth: np.ndarray, scores: np.ndarray, cases: int) -> None:
    from sklearn.calibration import CalibrationDisplay

    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle=":")
    style = {**line_style(0), "marker": "o", "label": "observed"}
    CalibrationDisplay.from_predictions(truth, scores, n_bins=calibration_bins(cases), ax=axes, ref_line=False, **style)
    _undress(axes)


def _undress(axes: Axes) -> None:
    """Remove axis labels and legend of scikit-learn's displays from a panel: the figure has them once."""
    axes.set(xlabel="", ylabel="", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    legend = axes.get_legend()
    if legend is not None:
        legend.remove()


def _dot(axes: Axes, x: float, y: float) -> None:
    axes.plot([x], [y], "o", color=_PREDICTED, markersize=5)
