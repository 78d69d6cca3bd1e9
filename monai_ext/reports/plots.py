"""Figures of a training run: curves by epoch, and cases by class.

Every function returns a new `matplotlib.figure.Figure` without global state of pyplot, so that figures can be drawn
from any thread and are freed with the last reference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from monai_ext.io import atomic_path
from monai_ext.pages.style import (
    COLOURS,
    MANY_LINES,
    draw_line,
    dress,
    finish_epochs,
    new_axes,
    plain,
    shorten,
    text_width,
    whole_epochs,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

History = Sequence[Mapping[str, Any]]
ALTERNATIVES = {
    "loss_curves": "Training and validation loss by epoch",
    "loss_terms": "Training and validation loss of each target by epoch",
    "angle_curves": "Mean angle to the true vectors by epoch, in degrees",
    "learning_curves": "Validation metrics and learning rate by epoch",
    "class_counts": "Cases by class in each set",
}
# Suffixes of entries that are no fractions, though they may lie in 0..1.
_NOT_IN_01 = ("_angle", "_mae", "_slices", "seconds")


def loss_curves(history: History, best_epoch: int | None = None) -> Figure:
    """Training and validation loss by epoch, the best epoch marked.

    Args:
        history: one mapping per epoch, as in ``metrics.json``.
        best_epoch: marked by a line; None for none.
    """
    figure, axes = new_axes("Loss", "epoch", "loss")
    for index, key in enumerate(("train_loss", "val_loss")):
        draw_line(axes, *series(history, key), {"train_loss": "training", "val_loss": "validation"}[key], index)
    finish_epochs(axes, best_epoch)
    return figure


def loss_terms(history: History, best_epoch: int | None = None) -> Figure:
    """Training and validation loss of each target, where the loss is a sum over targets.

    Args:
        history: one mapping per epoch, as in ``metrics.json``.
        best_epoch: marked by a line; None for none.
    """
    figure, axes = new_axes("Loss of each target, weighted", "epoch", "loss")
    for index, name in enumerate(term_names(history)):
        for part, key in (("training", "train_loss"), ("validation", "val_loss")):
            points = series(history, f"{key}_{name}")
            draw_line(axes, *points, f"{name}, {part}", index, linestyle="-" if key == "train_loss" else "--")
    finish_epochs(axes, best_epoch)
    return figure


def angle_curves(history: History, best_epoch: int | None = None) -> Figure:
    """Mean angle between predicted and true vectors by epoch, in degrees.

    Args:
        history: one mapping per epoch, as in ``metrics.json``.
        best_epoch: marked by a line; None for none.
    """
    figure, axes = new_axes("Mean angle to the true vectors", "epoch", "degrees")
    for index, name in enumerate(angle_names(history)):
        draw_line(axes, *series(history, name), name, index)
    axes.set_ylim(bottom=0)
    finish_epochs(axes, best_epoch)
    return figure


def learning_curves(
    history: History, best_epoch: int | None = None, cases: str | None = None, instances: str | None = None
) -> Figure:
    """Every metric in 0..1 by epoch, and the learning rate on a logarithmic axis below.

    Args:
        history: one mapping per epoch, as in ``metrics.json``.
        best_epoch: marked by a line; None for none.
        cases: name of the cases, such as ``"nuclei"``.
        instances: name of the instances, such as ``"crops"``; their metrics (``crops_f1``) have axes of their own, in
            the colours of those of the cases. None without instances.
    """
    names = metric_names(history)
    of_instances = [name for name in names if instances is not None and name.startswith(f"{instances}_")]
    of_cases = [name for name in names if name not in of_instances]
    title = f"Validation metrics of {cases or 'cases'}" if of_instances else "Validation metrics"
    height, rows = (8.2, 3) if of_instances else (5.2, 2)
    width = 6.4 if len(of_cases) < MANY_LINES else 9
    figure, axes = new_axes(title, "epoch", "value", width, height, rows)
    _draw_metrics(axes, history, dict(zip(of_cases, of_cases, strict=True)), best_epoch)
    if of_instances:
        dress(figure.axes[1], f"Validation metrics of {instances}", ylabel="value")
        found = {name: f"{instances}_{name}" for name in of_cases if f"{instances}_{name}" in of_instances}
        _draw_metrics(figure.axes[1], history, found, best_epoch)
    rate = figure.axes[-1]
    draw_line(rate, *series(history, "lr"), "lr", 0)
    rate.set(xlabel="epoch", ylabel="learning rate", yscale="log")
    whole_epochs(rate)
    return figure


def class_counts(counts: Mapping[str, Mapping[str, int]], cases: str | None = None) -> Figure:
    """Number of cases of each class in each set.

    Args:
        counts: set → class → number, for example ``{"train": {"LGG": 12, "HGG": 34}, …}``.
        cases: name of the cases, such as ``"nuclei"``.
    """
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


def run_figures(
    history: History = (),
    predictions: Mapping[str, Figure] | None = None,
    best_epoch: int | None = None,
    counts: Mapping[str, Mapping[str, int]] | None = None,
    cases: str | None = None,
    instances: str | None = None,
) -> dict[str, Figure]:
    """All figures that can be drawn from these data, by file name without suffix.

    Args:
        history: one mapping per epoch, as in ``metrics.json``.
        predictions: figures of the predictions, see `monai_ext.predictions.Predictions.figures`.
        best_epoch: marked by a line in the curves; None for none.
        counts: see `class_counts`.
        cases: name of the cases, such as ``"nuclei"``.
        instances: name of the instances, such as ``"crops"``; None without instances.
    """
    drawn: dict[str, Figure] = {}
    if any(len(series(history, key)[0]) for key in ("train_loss", "val_loss")):
        drawn["loss_curves"] = loss_curves(history, best_epoch)
    if term_names(history):
        drawn["loss_terms"] = loss_terms(history, best_epoch)
    if angle_names(history):
        drawn["angle_curves"] = angle_curves(history, best_epoch)
    if metric_names(history):
        drawn["learning_curves"] = learning_curves(history, best_epoch, cases, instances)
    drawn |= predictions or {}
    if counts and any(counts.values()):
        drawn["class_counts"] = class_counts(counts, cases)
    return drawn


def save_all(
    run_plots_dir: str | Path,
    history: History,
    predictions: Mapping[str, Figure] | None = None,
    best_epoch: int | None = None,
    counts: Mapping[str, Mapping[str, int]] | None = None,
    cases: str | None = None,
    instances: str | None = None,
) -> list[Path]:
    """Write all figures of a run as PNG files, each complete or not at all.

    Args:
        run_plots_dir: folder; it is created.
        history: one mapping per epoch, as in ``metrics.json``.
        predictions: name → figure of the predictions, see `monai_ext.predictions.Predictions.figures`.
        best_epoch: marked by a line in the curves; None for none.
        counts: set → class → number of cases.
        cases: name of the cases, such as ``"nuclei"``.
        instances: name of the instances, such as ``"crops"``; None without instances.

    Returns:
        Paths of the files.

    Raises:
        WriteError: when a file can't be written.
    """
    return [
        save(figure, Path(run_plots_dir) / f"{name}.png")
        for name, figure in run_figures(history, predictions, best_epoch, counts, cases, instances).items()
    ]


def save(figure: Figure, path: str | Path) -> Path:
    """Write one figure atomically, in the format of the suffix; returns the path."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130)
    return Path(path)


def series(history: History, key: str) -> tuple[list[float], list[float]]:
    """Epochs and values of the entry ``key`` of the history, where it is a finite number."""
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
        if key != "epoch" and "loss" not in key.split("_") and not key.startswith("lr") and not key.endswith(_NOT_IN_01)
    }
    return [key for key, values in found.items() if values and all(0 <= value <= 1 for value in values)]


def term_names(history: History) -> list[str]:
    """Names of the terms of the training loss: ``sheet`` for ``train_loss_sheet``."""
    names = dict.fromkeys(key for row in history for key in row if key.startswith("train_loss_"))
    return [key.removeprefix("train_loss_") for key in names if series(history, key)[0]]


def angle_names(history: History) -> list[str]:
    """Entries of the history that are angles in degrees."""
    names = dict.fromkeys(key for row in history for key in row if key.endswith("_angle"))
    return [key for key in names if series(history, key)[0]]


def _draw_metrics(axes: Axes, history: History, keys: Mapping[str, str], best_epoch: int | None) -> None:
    """Draw a line for each metric: label → entry of the history."""
    for index, (name, key) in enumerate(keys.items()):
        draw_line(axes, *series(history, key), name, index)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("")
    finish_epochs(axes, best_epoch)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
