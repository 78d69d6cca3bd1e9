from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from monai_ext.errors import DataError
from monai_ext.io import read_csv, write_json
from monai_ext.metrics import classification_metrics
from monai_ext.pages.document import Picture
from monai_ext.reports import write_cross_validation_report, write_report
from monai_ext.reports.checklist import checklist_section
from monai_ext.reports.mistakes_figure import DrawnMistake, mistakes_figure
from monai_ext.reports.plots import save

VOID = {"meta", "img", "br", "hr", "link", "input"}
HOSTILE = '<script>alert(\'x\')</script>{{ 7*7 }}$\\frac{ " onerror="x" \u202e'


class Page(HTMLParser):
    """Checks nesting while it collects text, attributes and cells."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data.strip())

    @property
    def text(self) -> str:
        return " ".join(word for word in self.words if word)

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_finished_run_tells_everything(make_run: Callable[..., Path]) -> None:
    run = make_run()
    page = Page(write_report(run))
    for words in (
        "The run finished.",
        "20 of 50 epochs were run.",
        "Best epoch: 16.",
        "took 1:06:20",
        "false negatives (missed HGG)",
        "process_peak_mib",
        "sha256:0f0f",
        "2 batches skipped: non-finite loss",
        "8200d3a",
    ):
        assert words in page.text
    metrics = json.loads((run / "metrics/metrics.json").read_text())
    assert f"auc {metrics['metrics']['auc']:.4f} (95 % interval {metrics['intervals']['auc'][0]:.4f} to" in page.text
    assert all(case in page.text for case in metrics["false_negatives"]["cases"])
    assert len(page.attributes("img")) == 7


def test_report_is_one_file_without_outside_parts(make_run: Callable[..., Path]) -> None:
    page = Page(write_report(make_run()))
    assert not re.search(r"https?://|//[a-z]", re.sub(r"base64,[^\"]+", "", page.source))
    assert {name for name, _ in page.tags}.isdisjoint({"script", "link", "iframe", "object"})
    assert all(str(image["src"]).startswith("data:image/png;base64,") for image in page.attributes("img"))
    assert all(str(link["href"]).startswith("#") for link in page.attributes("a"))


def test_report_is_accessible(make_run: Callable[..., Path]) -> None:
    page = Page(write_report(make_run()))
    assert page.attributes("html") == [{"lang": "en"}]
    assert all(image["alt"] for image in page.attributes("img"))
    assert {cell.get("scope") for cell in page.attributes("th")} == {"col", "row"}
    identifiers = [attributes["id"] for attributes in page.attributes("h2")]
    assert len(set(identifiers)) == len(identifiers)
    assert {f"#{name}" for name in identifiers} == {link["href"] for link in page.attributes("a")}


def test_hostile_names_stay_text(make_run: Callable[..., Path]) -> None:
    run = make_run(class_names=["_a<b>", HOSTILE], prefix=HOSTILE, parameters={HOSTILE: HOSTILE})
    info = json.loads((run / "run.json").read_text())
    write_json(run / "run.json", info | {"status": '"><script>', "run_name": HOSTILE, "events": [HOSTILE]})
    page = Page(write_report(run))
    assert page.attributes("script") == []
    assert not any("onerror" in attributes for _, attributes in page.tags)
    assert HOSTILE in page.text


def test_half_a_surrogate_pair_can_be_written(make_run: Callable[..., Path]) -> None:
    run = make_run()
    (run / "run.json").write_text('{"status": "finished", "run_name": "a\\ud800b"}')
    assert "a?b" in Page(write_report(run)).text


@pytest.mark.parametrize(
    "part", ["run.json", "metrics/metrics.json", "config/config.json", "predictions/val_predictions.csv"]
)
@pytest.mark.parametrize("damage", ["missing", "truncated", "other-type"])
def test_damaged_part_becomes_a_sentence(
    make_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, part: str, damage: str
) -> None:
    # The figures are made, only not rendered: that takes seconds.
    monkeypatch.setattr("monai_ext.reports.html.picture", lambda figure, alt: Picture(b"", alt))
    run = make_run(epochs=2)
    path = run / part
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:40] if damage == "truncated" else b"[1, 2]")
    page = Page(write_report(run))
    assert path.name in page.text.split("Skipped, and why")[-1]


def test_killed_run_before_its_first_epoch(tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", {"status": "killed", "parameters": {"max_epochs": 5}})
    page = Page(write_report(tmp_path))
    assert "The run was killed" in page.text
    assert "0 of 5 epochs were run." in page.text
    assert "There is nothing to draw" in page.text
    assert "There are no metrics of a best epoch" in page.text


def test_one_class_fold_says_why_there_is_no_auc(make_run: Callable[..., Path]) -> None:
    page = Page(write_report(make_run(labels=[1, 1, 1])))
    assert "auc: the validation set holds only class HGG (3 cases)" in page.text
    assert "auc 0" not in page.text
    alts = [image["alt"] for image in page.attributes("img")]
    assert not any("ROC" in str(alt) for alt in alts)


def test_more_than_two_classes(make_run: Callable[..., Path]) -> None:
    names = [f"type {letter}" for letter in "ABCDEFG"]
    page = Page(write_report(make_run(labels=[*range(7)] * 6, class_names=names)))
    assert re.search(r"\d+ of 42 cases are wrong", page.text)
    assert "predicted type G" in page.text


@pytest.fixture
def run_of_nuclei(make_run: Callable[..., Path]) -> Path:
    """A run of seven classes with 140 nuclei of three crops each."""
    names = [f"type {letter}" for letter in "ABCDEFG"]
    labels = [*range(7)] * 20
    run = make_run(labels=labels, class_names=names, prefix="n", epochs=2)
    crops = classification_metrics(np.random.default_rng(0).dirichlet(np.ones(7), 420), labels * 3, names)
    (run / "predictions/val_predictions.csv").rename(run / "predictions/predictions_nuclei.csv")
    metrics = json.loads((run / "metrics/metrics.json").read_text())
    parts = {"name": "crops", **crops.to_dict(), "skipped": ["auc: a reason"]}
    named = {"cases": "nuclei", "predictions": "predictions/predictions_nuclei.csv", "parts": parts}
    write_json(run / "metrics/metrics.json", {**metrics, **named})
    info = json.loads((run / "run.json").read_text())
    info["data"] = {"counts": {"val": dict.fromkeys(names, 60)}, "cases": {"val": dict.fromkeys(names, 20)}}
    write_json(run / "run.json", info)
    return run


@pytest.mark.rendered
def test_cases_and_parts_have_their_own_sections_and_names(run_of_nuclei: Path) -> None:
    page = Page(write_report(run_of_nuclei))
    headings = [link["href"] for link in page.attributes("a")]
    assert headings[1:3] == ["#metrics-of-nuclei", "#metrics-of-crops"]
    of_crops = page.text.split("Metrics of crops")[-1].split("Mistakes")[0]
    assert "Confusion matrix (crops)" in of_crops
    assert "95 % interval" not in of_crops
    for words in ("of 140 nuclei are wrong", "Nuclei by class", "Crops by class", "crops: auc: a reason"):
        assert words in page.text
    assert any("per cent of each true class" in str(image["alt"]) for image in page.attributes("img"))
    figures = zip(page.attributes("figure"), page.attributes("img"), strict=True)
    wide = {str(image["alt"]).split()[0] for figure, image in figures if figure.get("class") == "wide"}
    assert "ROC" in wide
    assert "Training" not in wide


def test_many_classes_and_cases_make_a_narrow_table_closed_at_first(
    run_of_nuclei: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monai_ext.reports.html.picture", lambda figure, alt: Picture(b"", alt))
    page = Page(write_report(run_of_nuclei))
    assert "Validation nuclei: 140" in page.text
    table = page.source.split("Validation nuclei: 140")[1].split("</table>")[0]
    assert re.findall(r'scope="col">([^<]+)', table) == [
        *("case", "prediction", "label", "p of the prediction", "p of the label")
    ]
    assert table.count("<tr>") == 141
    assert len(page.attributes("details")) >= 2


def test_a_damaged_entry_of_the_parts_is_as_if_there_were_none(
    run_of_nuclei: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monai_ext.reports.html.picture", lambda figure, alt: Picture(b"", alt))
    metrics = json.loads((run_of_nuclei / "metrics/metrics.json").read_text())
    write_json(run_of_nuclei / "metrics/metrics.json", {**metrics, "parts": [1], "predictions": 7})
    page = Page(write_report(run_of_nuclei))
    assert "Metrics of crops" not in page.text
    assert "val_predictions.csv: not there" in page.text


def test_other_plots_of_the_run_are_shown(make_run: Callable[..., Path]) -> None:
    run = make_run(epochs=1)
    (run / "plots").mkdir()
    for name in ("slice_preview.png", "roc.png", ".slice.partial.png"):
        (run / "plots" / name).write_bytes(b"\x89PNG")
    alts = [image["alt"] for image in Page(write_report(run)).attributes("img")]
    assert alts[-1] == "slice preview"
    assert len(alts) == 8


def test_output_can_be_named(make_run: Callable[..., Path], tmp_path: Path) -> None:
    target = tmp_path / "new folder" / "übersicht.html"
    assert write_report(make_run(epochs=1), target) == target
    assert target.is_file()


def test_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a run folder: it has neither"):
        write_report(tmp_path)
    with pytest.raises(DataError, match="not a cross-validation folder"):
        write_cross_validation_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_cross_validation_report(make_cross_validation: Callable[..., Path]) -> None:
    folder = make_cross_validation()
    content = json.loads((folder / "cross_validation.json").read_text())
    page = Page(write_cross_validation_report(folder))
    assert "5 folds have finished." in page.text
    assert f"Mean over the folds: auc {content['mean']['auc']:.4f} ± {content['std']['auc']:.4f}" in page.text
    assert "calibration.a" in page.text
    assert "false negatives (missed HGG)" in page.text
    assert len(page.attributes("img")) == 4


def test_cross_validation_report_names_the_wrong_cases_and_shows_the_heat_maps_of_each_fold(
    make_cross_validation: Callable[..., Path],
) -> None:
    folder = make_cross_validation(3)
    drawn = {}
    for fold in (0, 2):  # nothing was wrong in the other, so there is no picture
        path = folder / f"fold_{fold}" / "run_x" / "plots" / "mistakes.png"
        heat = np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 4, 4, 4)
        mistake = DrawnMistake(f"case of fold {fold}: HGG", "LGG, 0.91", np.full((1, 4, 4, 4), fold / 9), heat)
        drawn[fold] = base64.b64encode(save(mistakes_figure([mistake]), path).read_bytes()).decode()
    page = Page(write_cross_validation_report(folder))

    rows = read_csv(folder / "out_of_fold.csv", ["case", "prediction", "label"])
    wrong = {row["case"] for row in rows if row["prediction"] != row["label"]}
    assert wrong
    mistakes = page.text.split("Calibration and threshold")[-2].split("Curves")[-2]
    assert {word for word in mistakes.split() if word.startswith("case_")} == wrong

    titles = re.findall(r"<h2[^>]*>(Mistakes of fold \d in pictures)", page.source)
    assert titles == ["Mistakes of fold 0 in pictures", "Mistakes of fold 2 in pictures"]
    for title, content in zip(titles, drawn.values(), strict=True):
        assert content in page.source.split(f">{title}</h2>")[1].split("<h2")[0]
    shown = [one for one in page.attributes("img") if "Grad-CAM" in (one["alt"] or "")]
    assert len(shown) == 2


def test_cross_validation_without_any_result_yet(tmp_path: Path) -> None:
    write_json(tmp_path / "cross_validation.json", {"bundle": "b", "folds": []})
    page = Page(write_cross_validation_report(tmp_path))
    assert "No fold has finished." in page.text
    assert "out_of_fold.csv: not there" in page.text


@pytest.mark.parametrize(
    ("metrics", "epoch", "chosen", "intervals"),
    [
        ({"epoch": 0, "best_epoch": 0, "history": []}, "An evaluation", "None was chosen", "There are no"),
        (
            {**{"best_epoch": 2, "history": [{}], "intervals": {"f1": []}}, "thresholds_chosen_here": True},
            "Epoch 2; how it was chosen is not recorded.",
            "Chosen on these cases, so that scores at them are optimistic.",
            "95 % intervals of 1 metrics, by a method not recorded.",
        ),
        ({"thresholds": [0.3], "thresholds_chosen_here": False}, "An evaluation", "is not recorded.", "There are no"),
        ({"thresholds": [0.5], "thresholds_chosen_on": None}, "An evaluation", "None was chosen", "There are no"),
    ],
)
def test_the_checklist_says_nothing_false_of_records_of_earlier_versions(metrics, epoch, chosen, intervals):
    (_, answers, _) = checklist_section({}, metrics, None, "cases").blocks
    answer = {row[0]: str(row[1]) for row in answers.rows}
    assert epoch in answer["Choice of the epoch"]
    assert chosen in answer["Choice of thresholds"]
    assert intervals in answer["Uncertainty"]


def test_the_checklist_answers_what_the_records_know_and_lists_the_rest(make_run: Callable[..., Path]) -> None:
    run = make_run()
    record = json.loads((run / "run.json").read_text())
    record["data"] |= {
        "sizes": {"train": 228, "val": 57},
        "patients": {"train": 228, "val": 57},
        "shared_patients": 0,
        "left_out": ["x.nii.gz: is damaged"],
    }
    record["parameters"]["seed"] = 42
    write_json(run / "run.json", record)
    text = Page(write_report(run)).text
    for words in (
        "285 cases used: training 228 (228 patients), validated fold 57 (57 patients)",
        "No patient is in two parts.",
        "x.nii.gz: is damaged",
        "Wilson over cases",
        "bootstrap over cases",
        "HGG: slope",
        "seed 42",
        "Ethics approval",
        "to be written by the authors",
    ):
        assert words in text, words


def test_patients_in_two_parts_are_told(make_run: Callable[..., Path]) -> None:
    run = make_run()
    record = json.loads((run / "run.json").read_text())
    record["data"] |= {"sizes": {"train": 2, "val": 2}, "patients": {"train": 2, "val": 2}, "shared_patients": 1}
    write_json(run / "run.json", record)
    assert "1 patients are in two parts: figures are too good." in Page(write_report(run)).text
