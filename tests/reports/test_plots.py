from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from monai_ext.metrics import classification_metrics
from monai_ext.predictions import Classification
from monai_ext.reports import plots, save_all

LABELS = np.repeat([0, 1], [4, 8])
HGG = np.linspace(0.05, 0.95, 12)
RESULT = classification_metrics(np.stack([1 - HGG, HGG], axis=1), LABELS, ["LGG", "HGG"])
HISTORY = [
    {"epoch": 1, "train_loss": 1.0, "val_loss": None, "lr": 1e-3, "auc": 0.5, "seconds": 12.5},
    {"epoch": 2, "train_loss": float("nan"), "val_loss": 0.9, "lr": 5e-4, "auc": 0.7, "seconds": 11.0},
    {"epoch": 3, "train_loss": 0.6, "val_loss": 0.8, "lr": 1e-4, "auc": None, "seconds": 11.0},
]


def test_every_figure_is_written_as_png(tmp_path: Path) -> None:
    paths = save_all(
        tmp_path / "plots",
        HISTORY,
        Classification.figures(RESULT),
        2,
        {"train": {"LGG": 3}, "val": {"LGG": 1, "HGG": 2}},
    )
    assert [path.stem for path in paths] == [
        *("loss_curves", "learning_curves", "confusion_matrix", "roc", "precision_recall", "calibration"),
        "class_counts",
    ]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    assert sorted(tmp_path.rglob("*")) == sorted([tmp_path / "plots", *paths])


def test_pyplot_is_never_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    assert save_all(tmp_path, HISTORY)


def test_gaps_and_non_finite_values_leave_the_point_out() -> None:
    assert plots.series(HISTORY, "train_loss") == ([1.0, 3.0], [1.0, 0.6])
    assert plots.series(HISTORY, "val_loss") == ([2.0, 3.0], [0.9, 0.8])
    assert plots.metric_names(HISTORY) == ["auc"]


def test_best_epoch_is_marked() -> None:
    figure = plots.loss_curves(HISTORY, best_epoch=2)
    labels = figure.axes[0].get_legend_handles_labels()[1]
    assert labels == ["training", "validation", "best epoch (2)"]
    assert list(figure.axes[0].lines[-1].get_xdata()) == [2, 2]


def test_nothing_to_draw_draws_nothing(tmp_path: Path) -> None:
    assert save_all(tmp_path / "plots", [], None) == []
    assert save_all(tmp_path / "plots", [{"epoch": 1}], None, counts={"train": {}}) == []


def test_class_names_with_formula_signs_are_drawn_as_they_are(tmp_path: Path) -> None:
    names = ["$\\frac{", "_hidden", "<b>"]
    result = classification_metrics(np.eye(3)[[0, 1, 2, 0]], [0, 1, 2, 1], names)
    assert (
        len(
            save_all(
                tmp_path,
                [],
                Classification.figures(result),
                counts={"_part": dict.fromkeys(names, 1), "$": {names[0]: 2}},
            )
        )
        == 6
    )


def test_metrics_of_parts_have_axes_of_their_own_in_the_same_colours() -> None:
    history = [{**row, "f1": 0.4, "crops_f1": 0.3, "crops_auc": 0.2} for row in HISTORY]
    figure = plots.learning_curves(history, None, "nuclei", "crops")
    nuclei, crops, _ = figure.axes
    assert [axes.get_title(loc="left") for axes in (nuclei, crops)] == [
        *("Validation metrics of nuclei", "Validation metrics of crops")
    ]
    colours = [{line.get_label(): line.get_color() for line in axes.lines} for axes in (nuclei, crops)]
    assert colours[0] == colours[1]
    assert list(crops.lines[0].get_ydata()) == [0.2, 0.2, 0.2]
    assert len(plots.learning_curves(history).axes) == 2


def test_losses_of_targets_and_angles_have_figures_of_their_own():
    history = [
        {
            "epoch": epoch,
            "train_loss": 2.0,
            "train_loss_sheet": 0.75,
            "val_loss_sheet": 0.5,
            "sheet_dice": 0.8,
            "normals_angle": 0.9,
            "data_seconds": 0.1,
        }
        for epoch in (1, 2)
    ]
    assert plots.metric_names(history) == ["sheet_dice"]
    assert {"loss_terms", "angle_curves"} <= set(plots.run_figures(history))
    lines = [line.get_label() for line in plots.loss_terms(history, 2).axes[0].lines]
    assert lines == ["sheet, training", "sheet, validation", "best epoch (2)"]
