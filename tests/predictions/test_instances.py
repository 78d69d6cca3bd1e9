"""Nuclei and their crops through everything that writes results."""

import csv
import json

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator

from monai_ext import runs
from monai_ext.errors import ConfigError, DataError
from monai_ext.handlers import RunRecords, StandardEvaluation, WritePredictions
from monai_ext.handlers.data_summary import dataset_hash
from monai_ext.predictions import Classification
from monai_ext.reports import write_report

NAMES = ["A", "B", "C"]
COLUMNS = ["crop_z", "crop_y", "crop_x"]
# Case, position, label and probabilities of five crops of three nuclei.
CROPS = [
    ("n1", (0, 0, 0), 0, [0.7, 0.2, 0.1]),
    ("n1", (80, 0, 0), 0, [0.2, 0.5, 0.3]),
    ("n2", (0, 0, 0), 1, [0.5, 0.4, 0.1]),
    ("n3", (0, 0, 0), 2, [0.1, 0.2, 0.7]),
    ("n3", (0, 80, 0), 2, [0.3, 0.3, 0.4]),
]
ITEMS = [
    {"case": case, **dict(zip(COLUMNS, position, strict=True)), "label": label, "stamp": "s"}
    for case, position, label, _ in CROPS
]


def make(cases="nuclei", instances="crops"):
    columns = COLUMNS if instances else ()
    return Classification(
        NAMES, torch.nn.CrossEntropyLoss(), "f1", cases=cases, instances=instances, instance_columns=columns
    )


def evaluator(predictions, handlers=()):
    images = [
        {**item, "image": torch.tensor(p).log(), "index": i}
        for i, (item, (*_, p)) in enumerate(zip(ITEMS, CROPS, strict=True))
    ]
    return SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(images), batch_size=2),
        network=torch.nn.Identity(),
        key_val_metric={"f1": predictions},
        val_handlers=list(handlers),
    )


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def taken():
    """Predictions that hold the result of a validation."""

    def take(cases="nuclei", instances="crops"):
        predictions = make(cases, instances)
        engine = evaluator(predictions)
        engine.run()
        predictions.take(engine)
        return predictions

    return take


@pytest.fixture
def records(tmp_path, taken):
    """Records of an open run, and the predictions they write."""
    run = runs.RunFolder(tmp_path)
    run.open()
    predictions = taken()
    yield RunRecords(run, "train", {"val": ITEMS, "train": ITEMS[:2]}, NAMES, predictions)
    run.close(runs.FINISHED)


def test_each_level_has_its_predictions_and_the_arrays_are_those_of_the_nuclei(taken, tmp_path):
    taken().write(tmp_path)
    nuclei, crops = rows(tmp_path / "predictions_nuclei.csv"), rows(tmp_path / "predictions_crops.csv")
    probabilities = [f"prob_{name}" for name in NAMES]
    assert list(nuclei[0]) == ["case", *probabilities, "prediction", "label"]
    assert list(crops[0]) == ["case", *COLUMNS, *probabilities, "prediction", "label"]
    assert [row["case"] for row in nuclei] == ["n1", "n2", "n3"]
    assert [(row["case"], row["crop_z"], row["crop_y"]) for row in crops][1::3] == [
        ("n1", "80", "0"),
        ("n3", "0", "80"),
    ]
    assert float(nuclei[0]["prob_A"]) == pytest.approx(0.45)
    assert np.load(tmp_path / "val_probs.npy").shape == (3, 3)
    assert np.load(tmp_path / "val_labels.npy").tolist() == [0, 1, 2]
    assert np.load(tmp_path / "val_preds.npy").tolist() == [0, 0, 2]
    assert not (tmp_path / "val_predictions.csv").exists()


def test_one_level_has_the_file_it_always_had(taken, tmp_path):
    predictions = taken(None, None)
    predictions.write(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("val_predictions.csv", "val_probs.npy", "val_preds.npy", "val_labels.npy")
    }
    content = predictions.metrics()
    assert content["predictions"] == "predictions/val_predictions.csv"
    assert not {"parts", "cases"} & content.keys()


def test_metrics_are_those_of_the_nuclei_with_the_crops_under_parts(taken):
    content = taken().metrics(intervals=True)
    assert content["metrics"]["accuracy"] == pytest.approx(2 / 3)
    assert content["interval_methods"].keys() >= content["metrics"].keys()
    assert content["interval_methods"]["accuracy"] == {"method": "Wilson", "unit": "nuclei", "n": 3}
    assert content["predictions"] == "predictions/predictions_nuclei.csv"
    assert content["parts"].keys() == {
        *("name", "metrics", "per_class", "confusion_matrix", "confusion_matrix_normalised", "skipped")
    }
    assert (content["cases"], content["parts"]["name"]) == ("nuclei", "crops")
    assert content["parts"]["metrics"]["accuracy"] == pytest.approx(3 / 5)
    assert content["parts"]["confusion_matrix_normalised"][0] == [0.5, 0.5, 0]
    json.dumps(content, allow_nan=False)


def test_both_levels_come_back_from_a_checkpoint(taken, tmp_path):
    predictions = taken()
    torch.save(predictions.best_state(), tmp_path / "state.pt")
    restored = make()
    restored.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    assert restored.metrics() == predictions.metrics()
    for name, made in (("before", predictions), ("after", restored)):
        made.write(tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "before").iterdir())
    assert len(files) == 5
    for file in files:
        assert (tmp_path / "before" / file).read_bytes() == (tmp_path / "after" / file).read_bytes()


def test_predictions_before_the_first_validation_stay_empty_after_a_resume():
    predictions = make()
    predictions.restore(make().best_state())
    assert predictions.best is predictions.best_instances is predictions.report() is None


@pytest.mark.parametrize("names", [("nuclei", None), (None, "crops"), ("crops", "crops")], ids=["case", "part", "same"])
def test_half_of_two_levels_is_refused(names):
    with pytest.raises(ConfigError, match="Classification: name both cases and instances"):
        Classification(NAMES, cases=names[0], instances=names[1])


def test_the_record_counts_crops_and_nuclei_and_lists_each_nucleus_once(records):
    records.open(seed=0, first_epoch=None)
    data = records.run.record["data"]
    assert data["counts"] == {"val": {"A": 2, "B": 1, "C": 2}, "train": {"A": 2, "B": 0, "C": 0}}
    assert data["cases"] == {"val": {"A": 1, "B": 1, "C": 1}, "train": {"A": 1, "B": 0, "C": 0}}
    assert [row["case"] for row in rows(records.run / "splits" / "fold_1_val.csv")] == ["n1", "n2", "n3"]


def test_metrics_json_keeps_the_levels_apart_and_the_text_report_has_both(records):
    records.metrics(None, 3, {"val_loss": 0.5, "accuracy": 0.1, "crops_accuracy": 0.1})
    content = json.loads((records.run / "metrics" / "metrics.json").read_text())
    assert content["metrics"]["val_loss"] == 0.5
    assert content["metrics"]["accuracy"] == pytest.approx(2 / 3)
    assert not [name for name in content["metrics"] if name.startswith("crops")]
    text = (records.run / "metrics" / "classification_report.txt").read_text()
    nuclei, crops = text.split("crops\n")
    assert nuclei.startswith("nuclei\n")
    assert (nuclei.split()[-1], crops.split()[-1]) == ("3", "5")


def test_there_is_no_text_report_where_nothing_can_be_computed(records):
    records.predictions.best = records.predictions.best_instances = None
    records.metrics(None, 0, {})
    assert not (records.run / "metrics" / "classification_report.txt").exists()


def test_other_crops_of_the_same_nuclei_have_another_dataset_hash():
    moved = [*ITEMS[:-1], {**ITEMS[-1], "crop_x": 80}]
    whole = [{"case": item["case"], "label": item["label"], "stamp": "s"} for item in ITEMS]
    prints = {dataset_hash({"val": items}) for items in (ITEMS, moved, ITEMS[:-1], whole)}
    assert len(prints) == 4
    assert dataset_hash({"val": [dict(reversed(item.items())) for item in ITEMS]}) == dataset_hash({"val": ITEMS})


def test_paths_do_not_count_and_cases_without_parts_keep_their_dataset_hash():
    items = [{"case": "a", "label": 1, "stamp": [[3, 4]], "image": "/here/a.nii.gz"}]
    elsewhere = [{**items[0], "image": "/there/a.nii.gz"}]
    assert dataset_hash({"val": items}) == dataset_hash({"val": elsewhere}) == "5385241b2ef4fb83"


def test_an_evaluation_writes_and_reports_both_levels(tmp_path):
    run = runs.RunFolder(tmp_path)
    predictions = make()
    evaluator(predictions, [StandardEvaluation(run, predictions, {"val": ITEMS}, NAMES)]).run()
    folder = run / ""
    assert {"predictions_nuclei.csv", "predictions_crops.csv"} <= {p.name for p in (folder / "predictions").iterdir()}
    content = json.loads((folder / "metrics" / "metrics.json").read_text())
    assert content["metrics"]["accuracy"] == pytest.approx(2 / 3)
    assert content["metrics"]["val_loss"] == pytest.approx(1.0, abs=0.5)
    assert content["parts"]["metrics"]["accuracy"] == pytest.approx(3 / 5)
    assert (folder / "plots" / "confusion_matrix_normalised.png").exists()
    page = write_report(folder).read_text(encoding="utf-8")
    assert "Metrics of nuclei" in page
    assert "Metrics of crops" in page
    assert "1 of 3 nuclei are wrong" in page


LEVELS = {"cases": "nuclei", "instances": "crops", "instance_columns": COLUMNS}


def predict(folder, items=ITEMS, names=NAMES, batches=((0, 1, 2), (3, 4)), **arguments):
    """Infer over two batches."""
    predictions = Classification(names, logits=False, **{**LEVELS, **arguments})
    outputs = [{"pred": torch.tensor(p)[: len(names)]} for *_, p in CROPS]

    def step(engine, batch):
        engine.state.batch = [{**items[i], "index": i} for i in batch]
        return [outputs[i] for i in batch]

    engine = Engine(step)
    WritePredictions(predictions, folder).attach(engine)
    engine.run([list(batch) for batch in batches])


def test_inference_writes_crops_nuclei_and_one_document_with_both(tmp_path):
    predict(tmp_path)
    nuclei, crops = rows(tmp_path / "predictions_nuclei.csv"), rows(tmp_path / "predictions_crops.csv")
    assert [row["case"] for row in crops] == [case for case, *_ in CROPS]
    assert [row["prediction"] for row in nuclei] == ["A", "A", "C"]
    assert list(crops[0])[:4] == ["case", *COLUMNS]
    assert list(nuclei[0])[:2] == ["case", "prob_A"]
    document = json.loads((tmp_path / "predictions.json").read_text())
    assert [row["case"] for row in document["predictions"]] == ["n1", "n2", "n3"]
    assert document["parts"]["name"] == "crops"
    assert document["parts"]["predictions"][1]["crop_z"] == 80
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("predictions.json", "predictions_crops.csv", "predictions_nuclei.csv")
    ]


def test_inference_without_labels_has_no_such_column_on_either_level(tmp_path):
    unlabelled = [{name: value for name, value in item.items() if name != "label"} for item in ITEMS]
    predict(tmp_path, unlabelled)
    for level in ("nuclei", "crops"):
        assert "label" not in rows(tmp_path / f"predictions_{level}.csv")[0]


def test_calibration_and_threshold_are_about_nuclei(tmp_path):
    record = tmp_path / "cv.json"
    record.write_text('{"calibration": {"a": 2.0, "b": 0.0}, "threshold": 0.5}')
    items = [{**item, "label": 0} for item in ITEMS]
    predict(tmp_path, items, NAMES[:2], calibration=record, threshold=0.3)
    nuclei, crops = rows(tmp_path / "predictions_nuclei.csv"), rows(tmp_path / "predictions_crops.csv")
    assert float(crops[0]["prob_B"]) == pytest.approx(0.2)
    # n1: mean of .2 and .5, then its odds squared.
    assert float(nuclei[0]["prob_B"]) == pytest.approx(0.35**2 / (0.35**2 + 0.65**2), rel=1e-6)
    assert [row["prediction"] for row in crops][:3] == ["A", "B", "A"]
    assert [row["prediction"] for row in nuclei] == ["A", "B", "A"]


def test_crops_of_a_nucleus_with_two_labels_write_nothing(tmp_path):
    items = [{**item, "label": 2} if number == 1 else item for number, item in enumerate(ITEMS)]
    with pytest.raises(DataError, match="case 'n1' has parts labelled 'A' and parts labelled 'C'"):
        predict(tmp_path, items)
    assert list(tmp_path.iterdir()) == []


def test_no_crops_leave_files_with_a_header(tmp_path):
    Classification(NAMES, logits=False, **LEVELS).files().write(tmp_path)
    for level in ("nuclei", "crops"):
        assert (tmp_path / f"predictions_{level}.csv").read_text() == "case\n"
