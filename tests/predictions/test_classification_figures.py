from __future__ import annotations

import itertools
import sys
from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure

from monai_ext.metrics import classification_metrics
from monai_ext.predictions import Classification
from monai_ext.predictions import classification_figures as drawing

LABELS = np.repeat([0, 1], [4, 8])
HGG = np.linspace(0.05, 0.95, 12)
RESULT = classification_metrics(np.stack([1 - HGG, HGG], axis=1), LABELS, ["LGG", "HGG"])


def test_no_figure_is_left_in_pyplot() -> None:
    # scikit-learn's displays import it; a figure that it holds would never be freed
    Classification.figures(RESULT)
    assert sys.modules["matplotlib.pyplot"].get_fignums() == []


def test_confusion_matrix_shows_counts_and_shares_of_the_true_class() -> None:
    figure = drawing.confusion_matrix([[3, 1], [0, 0]], ["a", "b"])
    assert [text.get_text() for text in figure.axes[0].texts] == ["3\n75%", "1\n25%", "0", "0"]


def test_curve_legend_has_the_area() -> None:
    (label,) = drawing.roc(RESULT.probabilities, RESULT.labels, RESULT.class_names).axes[0].get_legend().get_texts()
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
    assert set(Classification.figures(result)) == drawn


LONG = [f"class {number} with a name that is longer than any axis" for number in range(18)]


def drawn_boxes(texts: list) -> list:
    """Extents in pixels of the texts of a figure that has been laid out."""
    return [text.get_window_extent() for text in texts if text.get_text()]


@pytest.mark.parametrize("count", [2, 4, 18])
def test_long_class_names_neither_overlap_nor_leave_the_confusion_matrix(count: int) -> None:
    figure = drawing.confusion_matrix(np.eye(count, dtype=int).tolist(), LONG[:count])
    figure.draw_without_rendering()
    axes = figure.axes[0]
    across, down = drawn_boxes(axes.get_xticklabels()), drawn_boxes(axes.get_yticklabels())
    assert len(across) == len(down) == count
    assert all(a.x1 < b.x0 for a, b in itertools.pairwise(across))
    assert all(a.y0 > b.y1 for a, b in itertools.pairwise(down))
    inside = figure.bbox
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= inside.x1 for box in [*across, *down])


@pytest.mark.parametrize("draw", [drawing.roc, drawing.precision_recall, drawing.calibration])
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
    drawn = Classification.figures(result)
    counts, shares = (drawn[name].axes[0].texts for name in ("confusion_matrix", "confusion_matrix_normalised"))
    assert [text.get_text() for text in counts] == ["1", "1", "0", "1", "1", "0", "0", "0", "0"]
    assert [text.get_text() for text in shares] == ["50", "50", "0", "50", "50", "0", "", "", ""]
