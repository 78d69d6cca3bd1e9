import json
from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Engine

from monai_ext.data import Problem
from monai_ext.data.left_out import Found
from monai_ext.errors import ConfigError
from monai_ext.handlers import WritePredictions, fold_checkpoints
from monai_ext.io import read_csv, write_json
from monai_ext.predictions import Classification


def predict(folder, cases, logits=False, unused=(), **arguments):
    predictions = Classification(["LGG", "HGG"], logits=logits, **arguments)

    def step(engine, batch):
        engine.state.batch = batch
        # MONAI's output holds None for the label where the batch needn't have one
        return [{"pred": torch.tensor(p), "label": None} for _, p, _ in cases]

    engine = Engine(step)
    WritePredictions(predictions, folder).attach(engine)
    batch = [
        {"case": case, "index": number, **({} if label is None else {"label": label})}
        for number, (case, _, label) in enumerate(cases)
    ]
    # as much of a data loader as the handler looks at
    loader = type("Loader", (list,), {"dataset": SimpleNamespace(data=Found(batch, unused))})
    engine.run(loader([batch]))


CASES = [("a", [0.7, 0.3], 0), ("=b", [0.4, 0.6], None)]


def test_probabilities_prediction_and_known_labels_are_written(tmp_path):
    predict(tmp_path, CASES)
    rows = read_csv(tmp_path / "predictions.csv", ["case"])
    assert [row["prediction"] for row in rows] == ["LGG", "HGG"]
    assert [row["label"] for row in rows] == ["LGG", ""]
    assert float(rows[1]["prob_HGG"]) == pytest.approx(0.6)
    assert json.loads((tmp_path / "predictions.json").read_text())["threshold"] is None


def test_what_was_left_out_stands_beside_the_predictions(tmp_path):
    predict(tmp_path, CASES)
    assert json.loads((tmp_path / "predictions.json").read_text())["left_out"] == []
    predict(tmp_path, CASES, unused=[Problem("notes.txt", "no volume", "note", "not-used")])
    assert json.loads((tmp_path / "predictions.json").read_text())["left_out"] == ["notes.txt: no volume"]


def test_without_any_label_there_is_no_such_column(tmp_path):
    predict(tmp_path, CASES[1:])
    columns = ["case", "prob_LGG", "prob_HGG", "prediction", "seen_in_training"]
    assert list(read_csv(tmp_path / "predictions.csv", ["case"])[0]) == columns


def test_logits_become_probabilities(tmp_path):
    predict(tmp_path, [("a", [0.0, 0.0], None), ("b", [0.0, 1.0], None)], logits=True)
    found = [float(row["prob_HGG"]) for row in read_csv(tmp_path / "predictions.csv", ["case"])]
    assert found == pytest.approx([0.5, 1 / (1 + 2.718281828**-1)])


def test_a_threshold_moves_the_decision(tmp_path):
    predict(tmp_path, CASES, threshold=0.25)
    assert [row["prediction"] for row in read_csv(tmp_path / "predictions.csv", ["case"])] == ["HGG", "HGG"]


def test_calibration_and_its_threshold_are_applied(tmp_path):
    record = write_json(tmp_path / "cv.json", {"calibration": {"a": 2.0, "b": 0.0}, "threshold": 0.7})
    predict(tmp_path, CASES, calibration=record)
    rows = read_csv(tmp_path / "predictions.csv", ["case"])
    assert float(rows[1]["prob_HGG"]) == pytest.approx(0.36 / (0.36 + 0.16), rel=1e-5)  # odds squared
    assert rows[1]["prediction"] == "LGG"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"class_names": ["a", "b", "c"], "threshold": 0.5}, "for two classes"),
        ({"class_names": ["a", "b"], "threshold": 1.5}, "must lie in 0..1"),
    ],
    ids=["classes", "range"],
)
def test_thresholds_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Classification(**arguments)


@pytest.mark.parametrize("content", [{}, {"folds": 3}, []], ids=["nothing", "number", "list"])
def test_a_file_that_is_no_cross_validation_is_named(tmp_path, content):
    record = write_json(tmp_path / "other.json", content)
    with pytest.raises(ConfigError, match=r"other\.json"):
        fold_checkpoints(record)
    with pytest.raises(ConfigError, match="has no calibration"):
        predict(tmp_path, CASES, calibration=record)
    assert not (tmp_path / "predictions.csv").exists()
