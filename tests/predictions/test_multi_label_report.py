"""Figures and report of several labels, for as many classes as CT-RATE has."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from monai_ext.io import read_json, write_csv, write_json
from monai_ext.metrics import (
    MultiLabelResult,
    choose_thresholds,
    interval_entries,
    multi_label_intervals,
    multi_label_metrics,
)
from monai_ext.pages.tables import count_table
from monai_ext.predictions import MultiLabel
from monai_ext.predictions import multi_label_figures as drawing
from monai_ext.predictions.multi_label_sections import metric_blocks, mistakes_blocks
from monai_ext.reports import plots, save_all, write_report
from monai_ext.reports.run_folder import read_run

NAMES = [
    *("Medical material", "Arterial wall calcification", "Cardiomegaly", "Pericardial effusion"),
    *("Coronary artery wall calcification", "Hiatal hernia", "Lymphadenopathy", "Emphysema", "Atelectasis"),
    *("Lung nodule", "Lung opacity", "Pulmonary fibrotic sequela", "Pleural effusion", "Mosaic attenuation pattern"),
    *("Peribronchial thickening", "Consolidation", "Bronchiectasis", "Interlobular septal thickening"),
]
EMPTY = NAMES.index("Mosaic attenuation pattern")


def made(count: int = 60, names: list[str] = NAMES, tuned: bool = True) -> MultiLabelResult:
    """A result in which one class has no positives."""
    rng = np.random.default_rng(0)
    labels = rng.random((count, len(names))) < np.linspace(0.1, 0.5, len(names))
    labels[:, EMPTY % len(names)] = False
    scores = 1 / (1 + np.exp(-rng.normal(2.0 * labels - 1.5, 1.0)))
    cuts = choose_thresholds(scores, labels) if tuned else None
    return multi_label_metrics(scores, labels, names, cuts, [f"valid_{number}_a" for number in range(count)])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with two levels."""
    found = made()
    intervals = interval_entries(multi_label_intervals(found, "volumes", n=50))
    content = {
        **{"task": "multi_label", "bundle": "ct_rate_multilabel", "best_epoch": 2, "key_metric": "auroc"},
        **found.to_dict(),
        **{"thresholds_chosen_here": True, "cases": "volumes"},
        **intervals,
        "parts": {"name": "slices", **{key: made(tuned=False).to_dict()[key] for key in ("metrics", "per_class")}},
        "predictions": "predictions/predictions_volumes.csv",
        "history": [{"epoch": 1, "train_loss": 1.0, "auroc": 0.5}, {"epoch": 2, "train_loss": 0.5, "auroc": 0.7}],
    }
    write_json(tmp_path / "metrics/metrics.json", content)
    write_csv(tmp_path / "predictions/predictions_volumes.csv", found.rows())
    counts = {"val": dict(zip(NAMES, found.labels.sum(axis=0).tolist(), strict=True))}
    write_json(tmp_path / "run.json", {"status": "finished", "data": {"counts": counts}})
    return tmp_path


@pytest.mark.rendered
def test_every_figure_is_written_as_png(tmp_path: Path) -> None:
    paths = save_all(tmp_path, [], MultiLabel.figures(made(), "volumes"))
    assert [path.stem for path in paths] == ["prevalence", "roc", "precision_recall", "calibration"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


@pytest.mark.parametrize("draw", [drawing.roc, drawing.precision_recall, drawing.calibration])
@pytest.mark.parametrize("count", [2, 18])
def test_a_class_with_both_values_has_a_panel_whose_head_meets_no_other(
    draw: Callable[..., Figure], count: int
) -> None:
    found = made(names=NAMES[:count])
    figure = draw(found)
    figure.draw_without_rendering()
    panels = [axes for axes in figure.axes if axes.get_title(loc="left")]
    heads = [axes.get_title(loc="left").splitlines()[0] for axes in panels]
    both = [name for name in NAMES[:count] if found.per_class[name]["auroc"] is not None]
    assert len(both) == count - 1
    assert [head for head in heads if head != "all classes"] == both
    boxes = [axes._left_title.get_window_extent() for axes in panels]
    assert all(box.x1 <= figure.bbox.x1 for box in boxes)
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def test_the_dot_is_where_the_threshold_is() -> None:
    found = made()
    dots = [axes.lines[-1].get_xydata()[0] for axes in drawing.roc(found).axes if len(axes.lines) == 3]
    recalls = [scores["recall_tuned"] for scores in found.per_class.values() if scores["recall_tuned"] is not None]
    assert [dot[1] for dot in dots] == pytest.approx(recalls)


def test_a_class_with_one_value_is_said_and_not_drawn() -> None:
    figure = drawing.roc(made())
    assert not any("Mosaic attenuation pattern" in axes.get_title(loc="left") for axes in figure.axes)
    assert "not drawn: 1 with one label value only" in figure.get_supxlabel()


def test_calibration_of_all_classes_comes_first() -> None:
    found = made()
    pooled, first, *_ = drawing.calibration(found).axes
    brier = ((found.probabilities - found.labels) ** 2).mean()
    assert pooled.get_title(loc="left") == f"all classes\nBrier {brier:.3f}"
    assert first.get_title(loc="left").startswith("Medical material")


def test_prevalence_compares_labels_and_predictions() -> None:
    found = made()
    labelled, predicted = drawing.prevalence(found, "volumes").axes[0].containers[:2]
    assert [bar.get_width() for bar in labelled] == pytest.approx(100 * found.labels.mean(axis=0))
    assert [bar.get_width() for bar in predicted] == pytest.approx(100 * found.predictions.mean(axis=0))


def test_only_what_is_defined_is_drawn() -> None:
    one_value = multi_label_metrics([[0.2, 0.6], [0.3, 0.7]], [[0, 1], [0, 1]], ["a", "b"])
    assert list(MultiLabel.figures(one_value)) == ["prevalence"]
    broken = multi_label_metrics([[np.nan, 0.6], [0.3, 0.7]], [[0, 1], [1, 0]], ["a", "b"])
    assert MultiLabel.figures(broken) == {}


@pytest.mark.rendered
def test_class_names_with_formula_signs_are_drawn_as_they_are(tmp_path: Path) -> None:
    assert len(save_all(tmp_path, [], MultiLabel.figures(made(names=["$\\frac{", "_hidden", "<b>"])))) == 4


def test_the_legend_of_many_metrics_stands_beside_the_curves() -> None:
    history = [{"epoch": epoch, **{f"metric_{n}": 0.1 * n for n in range(10)}} for epoch in (1, 2)]
    figure = plots.learning_curves(history, 2)
    figure.draw_without_rendering()
    legend = figure.axes[0].get_legend().get_window_extent()
    assert figure.axes[0].get_window_extent().x1 < legend.x0
    assert legend.x1 <= figure.bbox.x1


def test_classes_have_their_intervals_and_a_missing_score_is_none() -> None:
    found = made()
    content = {**found.to_dict(), "intervals": {"auroc/Cardiomegaly": [0.5, 0.75]}, "thresholds_chosen_here": True}
    _, said, by_class, at_half = metric_blocks(content, "volumes")
    assert "chosen on these volumes" in said.lines[0]
    assert list(by_class.header[:4]) == ["class", "positive", "threshold", "auroc"]
    rows = {row[0]: row for row in by_class.rows}
    assert rows["Cardiomegaly"][3].replace("\u2060", "").endswith(" (0.50–0.75)")
    assert rows["Lung nodule"][3] == found.per_class["Lung nodule"]["auroc"]
    assert rows["Lung nodule"][5] == found.per_class["Lung nodule"]["f1_tuned"]
    assert rows[NAMES[EMPTY]][1] == 0
    assert rows[NAMES[EMPTY]][3] is None
    assert at_half.content.rows[0][4] == found.per_class[NAMES[0]]["f1"]


def test_metrics_without_thresholds_are_at_one_half() -> None:
    averages, by_class = metric_blocks(made(tuned=False).to_dict())
    assert list(averages.header) == ["metric", "at 0.5"]
    assert by_class.caption == "By class, at 0.5"
    assert metric_blocks({})[0].lines == ["There are no metrics of a best epoch: see Skipped, and why."]


def test_the_most_certain_mistakes_of_each_class_come_first() -> None:
    scores = [[0.05], [0.3], [0.45], [0.99], [0.7], [0.9]]
    result = multi_label_metrics(scores, [[1], [1], [1], [0], [0], [1]], ["nodule"], cases=list("abcdef"))
    said, folded = mistakes_blocks(result, "volumes", most=2)
    assert said.lines == ["1 of 6 volumes have no wrong label."]
    assert folded.summary == "nodule: 3 missed, 2 false alarms"
    assert folded.content.rows == [
        *(("a", "missed", 0.05), ("b", "missed", 0.3), ("d", "false alarm", 0.99), ("e", "false alarm", 0.7)),
    ]
    assert mistakes_blocks(None)[0].lines == ["There are no predictions with labels of a best epoch."]


def test_the_report_tells_of_both_levels(run: Path) -> None:
    page = write_report(run).read_text(encoding="utf-8")
    auroc = read_json(run / "metrics/metrics.json")["metrics"]["auroc"]
    for words in (
        f"Validation auroc {auroc:.4f} (95 % interval",
        *("Metrics of volumes", "Metrics of slices", "merged probabilities", "By class, at its threshold"),
        *("volumes have no wrong label", "Validation volumes: 60", "How often each label is given and predicted"),
        "class Mosaic attenuation pattern: all 60 cases are negative",
    ):
        assert words in page
    assert "Confusion matrix" not in page


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("label_Lung nodule", "other"), "is missing; the file has"),
        (lambda text: text.splitlines()[0] + "\n", "has no rows"),
        (lambda text: text.replace("valid_3_a,0.", "valid_3_a,x."), "is not a number"),
    ],
    ids=["column", "rows", "number"],
)
def test_a_damaged_prediction_file_is_a_line_in_the_report(run: Path, change, message) -> None:
    path = run / "predictions/predictions_volumes.csv"
    path.write_text(change(path.read_text()))
    read = read_run(run)
    assert read.result is None
    assert path.name in read.problems[-1]
    assert message in read.problems[-1]


@pytest.mark.parametrize("thresholds", [[0.5], ["x"] * 18, {"a": 1}, None], ids=["few", "text", "object", "none"])
def test_edited_thresholds_never_stop_the_report(run: Path, thresholds) -> None:
    content = read_json(run / "metrics/metrics.json")
    write_json(run / "metrics/metrics.json", {**content, "thresholds": thresholds})
    read = read_run(run)
    assert (read.result is None) == bool(read.problems and "predictions" in read.problems[-1])


def test_counts_of_several_labels_do_not_add_up() -> None:
    counts = {"train": {"a": 3, "b": 2}}
    assert list(count_table(counts, "", add_up=False).header) == ["part", "a", "b"]
    many = {"train": {name: 1 for name in NAMES}}
    assert [row[0] for row in count_table(many, "", add_up=False).rows] == NAMES


def test_the_report_of_an_evaluation_tells_of_no_epochs(run: Path) -> None:
    content = read_json(run / "metrics/metrics.json")
    write_json(run / "metrics/metrics.json", {**content, "history": [], "best_epoch": 0})
    text = write_report(run).read_text(encoding="utf-8")
    assert f"Evaluation auroc {content['metrics']['auroc']:.4f} (95 % interval" in text
    assert "epochs were run" not in text
    assert "Best epoch" not in text
