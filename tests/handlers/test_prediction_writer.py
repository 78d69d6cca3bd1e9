import json

import pytest
import torch
from ignite.engine import Engine

from monai_ext.errors import ConfigError
from monai_ext.handlers import PredictionWriter, fold_checkpoints
from monai_ext.io import read_csv, write_json


def predict(writer, cases):
    def step(engine, batch):
        engine.state.batch = batch
        return [{"pred": torch.tensor(p)} for _, p, _ in cases]

    engine = Engine(step)
    writer.attach(engine)
    batch = [{"case": case, **({} if label is None else {"label": label})} for case, _, label in cases]
    engine.run([batch])
    return batch


CASES = [("a", [0.7, 0.3], 0), ("=b", [0.4, 0.6], None)]


def test_probabilities_prediction_and_known_labels_are_written(tmp_path):
    predict(PredictionWriter(tmp_path, ["LGG", "HGG"]), CASES)
    rows = read_csv(tmp_path / "predictions.csv", ["case"])
    assert [row["prediction"] for row in rows] == ["LGG", "HGG"]
    assert [row["label"] for row in rows] == ["LGG", ""]
    assert float(rows[1]["prob_HGG"]) == pytest.approx(0.6)
    assert json.loads((tmp_path / "predictions.json").read_text())["threshold"] is None


def test_without_any_label_there_is_no_such_column(tmp_path):
    predict(PredictionWriter(tmp_path, ["LGG", "HGG"]), CASES[1:])
    assert list(read_csv(tmp_path / "predictions.csv", ["case"])[0]) == ["case", "prob_LGG", "prob_HGG", "prediction"]


def test_a_threshold_moves_the_decision(tmp_path):
    predict(PredictionWriter(tmp_path, ["LGG", "HGG"], threshold=0.25), CASES)
    assert [row["prediction"] for row in read_csv(tmp_path / "predictions.csv", ["case"])] == ["HGG", "HGG"]


def test_calibration_and_its_threshold_are_applied(tmp_path):
    record = write_json(tmp_path / "cv.json", {"calibration": {"a": 2.0, "b": 0.0}, "threshold": 0.7})
    predict(PredictionWriter(tmp_path, ["LGG", "HGG"], calibration=record), CASES)
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
def test_thresholds_that_make_no_sense_are_refused(tmp_path, arguments, message):
    with pytest.raises(ConfigError, match=message):
        PredictionWriter(tmp_path, **arguments)


@pytest.mark.parametrize("content", [{}, {"folds": 3}, []], ids=["nothing", "number", "list"])
def test_a_file_that_is_no_cross_validation_is_named(tmp_path, content):
    record = write_json(tmp_path / "other.json", content)
    with pytest.raises(ConfigError, match=r"other\.json"):
        fold_checkpoints(record)
    with pytest.raises(ConfigError, match="holds no calibration"):
        predict(PredictionWriter(tmp_path, ["LGG", "HGG"], calibration=record), CASES)
    assert not (tmp_path / "predictions.csv").exists()
