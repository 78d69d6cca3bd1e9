from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from monai_ext.metrics import classification_metrics
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
    paths = save_all(tmp_path / "plots", HISTORY, RESULT, 2, {"train": {"LGG": 3}, "val": {"LGG": 1, "HGG": 2}})
    assert [path.stem for path in paths] == [
        *("loss_curves", "learning_curves", "confusion_matrix", "roc", "precision_recall", "calibration"),
        "class_counts",
    ]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    assert sorted(tmp_path.rglob("*")) == sorted([tmp_path / "plots", *paths])


def test_pyplot_is_never_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    assert save_all(tmp_path, HISTORY[:1], RESULT)


def test_gaps_and_non_finite_values_leave_the_point_out() -> None:
    assert plots.series(HISTORY, "train_loss") == ([1.0, 3.0], [1.0, 0.6])
    assert plots.series(HISTORY, "val_loss") == ([2.0, 3.0], [0.9, 0.8])
    assert plots.metric_names(HISTORY) == ["auc"]


def test_best_epoch_is_marked() -> None:
    figure = plots.loss_curves(HISTORY, best_epoch=2)
    labels = figure.axes[0].get_legend_handles_labels()[1]
    assert labels == ["training", "validation", "best epoch (2)"]
    assert list(figure.axes[0].lines[-1].get_xdata()) == [2, 2]


def test_confusion_matrix_shows_counts_and_shares_of_the_true_class() -> None:
    figure = plots.confusion_matrix([[3, 1], [0, 0]], ["a", "b"])
    assert [text.get_text() for text in figure.axes[0].texts] == ["3\n75%", "1\n25%", "0", "0"]


def test_curve_legend_has_the_area() -> None:
    (label,) = plots.roc(RESULT.probabilities, RESULT.labels, RESULT.class_names).axes[0].get_legend().get_texts()
    assert label.get_text() == f"HGG (AUC {RESULT.metrics['auc']:.3f})"


@pytest.mark.parametrize(
    ("labels", "drawn"),
    [
        pytest.param([1, 1, 1], {"confusion_matrix"}, id="one-class"),
        pytest.param([0, 1, 1], {"confusion_matrix", "roc", "precision_recall", "calibration"}, id="two-classes"),
    ],
)
def test_only_what_is_defined_is_drawn(labels: list[int], drawn: set[str]) -> None:
    result = classification_metrics([[0.4, 0.6], [0.1, 0.9], [0.2, 0.8]], labels, ["LGG", "HGG"])
    assert set(plots.figures(result=result)) == drawn


def test_nothing_to_draw_draws_nothing(tmp_path: Path) -> None:
    assert save_all(tmp_path / "plots", [], None) == []
    assert save_all(tmp_path / "plots", [{"epoch": 1}], None, counts={"train": {}}) == []


def test_class_names_with_formula_signs_are_drawn_as_they_are(tmp_path: Path) -> None:
    names = ["$\\frac{", "_hidden", "<b>"]
    result = classification_metrics(np.eye(3)[[0, 1, 2, 0]], [0, 1, 2, 1], names)
    assert len(save_all(tmp_path, [], result, counts={"_part": dict.fromkeys(names, 1), "$": {names[0]: 2}})) == 6


LONG = [f"class {number} with a name that is longer than any axis" for number in range(18)]


def drawn_boxes(texts: list) -> list:
    """Extents in pixels of the texts of a figure that has been laid out."""
    return [text.get_window_extent() for text in texts if text.get_text()]


@pytest.mark.parametrize("count", [2, 4, 18])
def test_long_class_names_neither_overlap_nor_leave_the_confusion_matrix(count: int) -> None:
    figure = plots.confusion_matrix(np.eye(count, dtype=int).tolist(), LONG[:count])
    figure.draw_without_rendering()
    axes = figure.axes[0]
    across, down = drawn_boxes(axes.get_xticklabels()), drawn_boxes(axes.get_yticklabels())
    assert len(across) == len(down) == count
    assert all(a.x1 < b.x0 for a, b in itertools.pairwise(across))
    assert all(a.y0 > b.y1 for a, b in itertools.pairwise(down))
    inside = figure.bbox
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= inside.x1 for box in [*across, *down])


@pytest.mark.parametrize("draw", [plots.roc, plots.precision_recall, plots.calibration])
def test_the_legend_of_many_classes_stands_beside_the_curves(draw: Callable[..., Figure]) -> None:
    labels = np.tile(np.arange(18), 4)
    scores = np.random.default_rng(0).dirichlet(np.ones(18), 72)
    figure = draw(scores, labels, LONG)
    figure.draw_without_rendering()
    axes = figure.axes[0]
    legend = axes.get_legend().get_window_extent()
    assert legend.x0 > axes.get_window_extent().x1
    assert legend.x1 <= figure.bbox.x1
    assert len(axes.get_legend().get_texts()) == 18


def test_more_than_two_classes_have_counts_and_shares_in_two_pictures() -> None:
    result = classification_metrics(np.eye(3)[[0, 1, 1, 0]], [0, 0, 1, 1], ["a", "b", "c"])
    drawn = plots.figures(result=result)
    counts, shares = (drawn[name].axes[0].texts for name in ("confusion_matrix", "confusion_matrix_normalised"))
    assert [text.get_text() for text in counts] == ["1", "1", "0", "1", "1", "0", "0", "0", "0"]
    assert [text.get_text() for text in shares] == ["50", "50", "0", "50", "50", "0", "", "", ""]


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
    assert {"loss_terms", "angle_curves"} <= set(plots.figures(history))
    lines = [line.get_label() for line in plots.loss_terms(history, 2).axes[0].lines]
    assert lines == ["sheet, training", "sheet, validation", "best epoch (2)"]
