"""Figures of a training run: curves by epoch, and what the validation cases say about the classifier.

Every function returns a `matplotlib.figure.Figure` of its own and touches no global state of pyplot, so that
figures can be drawn from any thread and are freed with the last reference.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from monai_ext.arrays import to_numpy
from monai_ext.io import atomic_path
from monai_ext.metrics import ClassificationResult, MultiLabelResult, SegmentationResult, reliability_curve
from monai_ext.reports.label_plots import label_figures
from monai_ext.reports.segmentation_plots import segmentation_figures
from monai_ext.reports.style import (
    COLOURS,
    MANY_LINES,
    draw_line,
    dress,
    finish_epochs,
    new_axes,
    place_legend,
    plain,
    plot_width,
    shorten,
    text_width,
    whole_epochs,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

History = Sequence[Mapping[str, Any]]
Result = ClassificationResult | MultiLabelResult | SegmentationResult
# Ends of the names of entries that may happen to lie in 0..1.
_NO_SHARE = ("_angle", "_mae", "_slices", "seconds")


def loss_curves(history: History, best_epoch: int | None = None) -> Figure:
    """Training and validation loss by epoch, the best epoch marked."""
    figure, axes = new_axes("Loss", "epoch", "loss")
    for index, key in enumerate(("train_loss", "val_loss")):
        draw_line(axes, *series(history, key), {"train_loss": "training", "val_loss": "validation"}[key], index)
    finish_epochs(axes, best_epoch)
    return figure


def loss_terms(history: History, best_epoch: int | None = None) -> Figure:
    """Training and validation loss of each target, where the loss is a sum over targets."""
    figure, axes = new_axes("Loss of each target, weighted", "epoch", "loss")
    for index, name in enumerate(term_names(history)):
        for part, key in (("training", "train_loss"), ("validation", "val_loss")):
            points = series(history, f"{key}_{name}")
            draw_line(axes, *points, f"{name}, {part}", index, linestyle="-" if key == "train_loss" else "--")
    finish_epochs(axes, best_epoch)
    return figure


def angle_curves(history: History, best_epoch: int | None = None) -> Figure:
    """Mean angle between predicted and true vectors by epoch, in degrees."""
    figure, axes = new_axes("Mean angle to the true vectors", "epoch", "degrees")
    for index, name in enumerate(angle_names(history)):
        draw_line(axes, *series(history, name), name, index)
    axes.set_ylim(bottom=0)
    finish_epochs(axes, best_epoch)
    return figure


def learning_curves(
    history: History, best_epoch: int | None = None, cases: str | None = None, parts: str | None = None
) -> Figure:
    """Every metric in 0..1 by epoch, and the learning rate on a logarithmic axis below.

    Args:
        history: epochs.
        best_epoch: gets a line.
        cases, parts: names of the two levels. The metrics of the parts (``crops_f1``) get axes of their own, in the
            colours of those of the cases.
    """
    names = metric_names(history)
    of_parts = [name for name in names if parts is not None and name.startswith(f"{parts}_")]
    of_cases = [name for name in names if name not in of_parts]
    title = f"Validation metrics of {cases or 'cases'}" if of_parts else "Validation metrics"
    height, rows = (8.2, 3) if of_parts else (5.2, 2)
    width = 6.4 if len(of_cases) < MANY_LINES else 9
    figure, axes = new_axes(title, "epoch", "value", width, height, rows)
    _draw_metrics(axes, history, dict(zip(of_cases, of_cases, strict=True)), best_epoch)
    if of_parts:
        dress(figure.axes[1], f"Validation metrics of {parts}", ylabel="value")
        found = {name: f"{parts}_{name}" for name in of_cases if f"{parts}_{name}" in of_parts}
        _draw_metrics(figure.axes[1], history, found, best_epoch)
    rate = figure.axes[-1]
    draw_line(rate, *series(history, "lr"), "lr", 0)
    rate.set(xlabel="epoch", ylabel="learning rate", yscale="log")
    whole_epochs(rate)
    return figure


def confusion_matrix(matrix: Sequence[Sequence[int]], class_names: Sequence[str]) -> Figure:
    """Counts in the cells; the colours, and the percentages for two classes, are the shares of each true class."""
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
    """Shares of each true class, in per cent; the cells of a class without cases stay empty."""
    share = np.array(matrix, dtype=np.float64)
    texts = [["" if np.isnan(part) else f"{100 * part:.0f}" for part in row] for row in share]
    return _matrix_figure("Confusion matrix, % of the true class", np.nan_to_num(share), texts, class_names)


def roc(probabilities: ArrayLike, labels: ArrayLike, class_names: Sequence[str]) -> Figure:
    """ROC curve of the last of two classes, or of each class against the rest."""
    from sklearn.metrics import auc, roc_curve

    figure, axes = new_axes("ROC", "false positive rate", "true positive rate", width=plot_width(class_names), height=5)
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle=":")
    for index, (name, truth, scores) in enumerate(_one_against_rest(probabilities, labels, class_names)):
        fpr, tpr, _ = roc_curve(truth, scores)
        draw_line(axes, fpr, tpr, f"{shorten(name)} (AUC {auc(fpr, tpr):.3f})", index, marker="")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    place_legend(axes, "lower right")
    return figure


def precision_recall(probabilities: ArrayLike, labels: ArrayLike, class_names: Sequence[str]) -> Figure:
    """Precision over recall, as `roc`; the dotted lines are the shares of the classes (a guesser's precision)."""
    from sklearn.metrics import average_precision_score, precision_recall_curve

    figure, axes = new_axes("Precision and recall", "recall", "precision", width=plot_width(class_names), height=5)
    for index, (name, truth, scores) in enumerate(_one_against_rest(probabilities, labels, class_names)):
        precision, recall, _ = precision_recall_curve(truth, scores)
        label = f"{shorten(name)} (average {average_precision_score(truth, scores):.3f})"
        axes.axhline(truth.mean(), color=COLOURS[index % len(COLOURS)], linewidth=1, linestyle=":")
        draw_line(axes, recall, precision, label, index, marker="", drawstyle="steps-post")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    place_legend(axes, "lower left")
    return figure


def calibration(probabilities: ArrayLike, labels: ArrayLike, class_names: Sequence[str]) -> Figure:
    """Observed frequency over predicted probability, with the Brier score.

    The ticks below are the cases; of more than three classes there would be too many.
    """
    from sklearn.metrics import brier_score_loss

    figure, axes = new_axes(
        "Calibration", "predicted probability", "observed frequency", width=plot_width(class_names), height=5
    )
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle=":")
    for index, (name, truth, scores) in enumerate(_one_against_rest(probabilities, labels, class_names)):
        label = f"{shorten(name)} (Brier {brier_score_loss(truth, scores):.3f})"
        # About ten cases a bin, else the curve is mostly noise.
        bins = int(np.clip(len(truth) // 10, 3, 10))
        draw_line(axes, *reliability_curve(scores, truth, bins), label, index)
        if len(class_names) < 4:
            rug = np.full(len(scores), -0.03 - 0.012 * (index % 2))
            axes.plot(scores, rug, "|", color=COLOURS[index % len(COLOURS)], markersize=5, alpha=0.5)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.06, 1.02), aspect="equal")
    place_legend(axes, "upper left")
    return figure


def class_counts(counts: Mapping[str, Mapping[str, int]], cases: str | None = None) -> Figure:
    """Cases of each class in each part of the data, for example ``{"train": {"LGG": 12, "HGG": 34}, …}``."""
    classes = list(dict.fromkeys(name for part in counts.values() for name in part))
    title = f"{(cases or 'cases').capitalize()} by class"
    names = [shorten(name) for name in classes]
    size = max(5.2, (0.17 * len(counts) + 0.1) * len(classes) + 1)
    upright = text_width(names) > (size - 1) / len(classes)
    height = 3.6 + text_width(names) if upright else 4.2
    figure, axes = new_axes(title, "", cases or "cases", width=size, height=height)
    width = 0.8 / max(len(counts), 1)
    for index, (part, found) in enumerate(counts.items()):
        places = np.arange(len(classes)) + (index - (len(counts) - 1) / 2) * width
        bars = axes.bar(
            places,
            [found.get(name, 0) for name in classes],
            width * 0.94,
            color=COLOURS[index % len(COLOURS)],
            label=plain(part),
        )
        axes.bar_label(bars, padding=2, fontsize="small", rotation=90 if upright else 0)
    axes.set_xticks(range(len(classes)), names, rotation=90 if upright else 0)
    axes.grid(False, axis="x")
    axes.margins(x=0.02, y=0.15)
    if len(counts) > 1:
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(counts), fontsize="small", frameon=False)
    return figure


def figures(
    history: History = (),
    result: Result | None = None,
    best_epoch: int | None = None,
    counts: Mapping[str, Mapping[str, int]] | None = None,
    cases: str | None = None,
    parts: str | None = None,
) -> dict[str, Figure]:
    """All figures that can be drawn from what is there, by file name without suffix.

    Args:
        history: epochs.
        result: of the cases.
        best_epoch: gets a line in the curves.
        counts: see `class_counts`.
        cases, parts: what they are called, where cases have parts: ``"nuclei"`` and ``"crops"``.
    """
    drawn: dict[str, Figure] = {}
    if any(len(series(history, key)[0]) for key in ("train_loss", "val_loss")):
        drawn["loss_curves"] = loss_curves(history, best_epoch)
    if term_names(history):
        drawn["loss_terms"] = loss_terms(history, best_epoch)
    if angle_names(history):
        drawn["angle_curves"] = angle_curves(history, best_epoch)
    if metric_names(history):
        drawn["learning_curves"] = learning_curves(history, best_epoch, cases, parts)
    if isinstance(result, MultiLabelResult):
        drawn |= label_figures(result, cases)
    elif isinstance(result, SegmentationResult):
        drawn |= segmentation_figures(result)
    elif result is not None and result.confusion_matrix:
        drawn["confusion_matrix"] = confusion_matrix(result.confusion_matrix, result.class_names)
        if len(result.class_names) > 2:
            shares = confusion_matrix_normalised(result.confusion_matrix_normalised, result.class_names)
            drawn["confusion_matrix_normalised"] = shares
        if len(np.unique(result.labels)) > 1:
            curves = (result.probabilities, result.labels, result.class_names)
            drawn["roc"] = roc(*curves)
            drawn["precision_recall"] = precision_recall(*curves)
            drawn["calibration"] = calibration(*curves)
    if counts and any(counts.values()):
        drawn["class_counts"] = class_counts(counts, cases)
    return drawn


def save_all(
    run_plots_dir: str | Path,
    history: History,
    result: Result | None = None,
    best_epoch: int | None = None,
    counts: Mapping[str, Mapping[str, int]] | None = None,
    cases: str | None = None,
    parts: str | None = None,
) -> list[Path]:
    """Write `figures` as PNG files, each whole or not at all; returns their paths."""
    return [
        save(figure, Path(run_plots_dir) / f"{name}.png")
        for name, figure in figures(history, result, best_epoch, counts, cases, parts).items()
    ]


def save(figure: Figure, path: str | Path) -> Path:
    """Write one figure atomically, in the format of the suffix."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130)
    return Path(path)


def series(history: History, key: str) -> tuple[list[float], list[float]]:
    """Epochs and values of one entry of the history, where it is a finite number."""
    points = [
        (row.get("epoch", number), row[key]) for number, row in enumerate(history, start=1) if _is_number(row.get(key))
    ]
    return [float(epoch) for epoch, _ in points], [float(value) for _, value in points]


def metric_names(history: History) -> list[str]:
    """Entries of the history that are metrics: numbers in 0..1, neither a loss nor a learning rate."""
    names = dict.fromkeys(key for row in history for key in row)
    found = {
        key: series(history, key)[1]
        for key in names
        if key != "epoch" and "loss" not in key.split("_") and not key.startswith("lr") and not key.endswith(_NO_SHARE)
    }
    return [key for key, values in found.items() if values and all(0 <= value <= 1 for value in values)]


def term_names(history: History) -> list[str]:
    """Terms of the training loss: ``sheet`` where there is ``train_loss_sheet``."""
    names = dict.fromkeys(key for row in history for key in row if key.startswith("train_loss_"))
    return [key.removeprefix("train_loss_") for key in names if series(history, key)[0]]


def angle_names(history: History) -> list[str]:
    """Entries of the history that are angles in degrees."""
    names = dict.fromkeys(key for row in history for key in row if key.endswith("_angle"))
    return [key for key in names if series(history, key)[0]]


def _draw_metrics(axes: Axes, history: History, keys: Mapping[str, str], best_epoch: int | None) -> None:
    """Lines of the metrics named by the keys, each read from the entry that is the value."""
    for index, (name, key) in enumerate(keys.items()):
        draw_line(axes, *series(history, key), name, index)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("")
    finish_epochs(axes, best_epoch)


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
    figure.colorbar(image, ax=axes, label="share of the true class", fraction=0.046)
    return figure


def _one_against_rest(
    probabilities: ArrayLike, labels: ArrayLike, class_names: Sequence[str]
) -> Iterable[tuple[str, np.ndarray, np.ndarray]]:
    scores, truth = to_numpy(probabilities, np.float64), to_numpy(labels)
    for index in range(len(class_names)) if len(class_names) > 2 else [1]:
        hits = (truth == index).astype(np.int64)
        if 0 < hits.sum() < hits.size:
            yield str(class_names[index]), hits, scores[:, index]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
