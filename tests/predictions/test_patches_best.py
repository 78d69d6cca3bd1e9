import json
from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Engine

from monai_ext.errors import ConfigError
from monai_ext.handlers import SlicePreviews
from monai_ext.metrics import MultiTargetResult, PatchRecord
from monai_ext.predictions import Patches
from monai_ext.predictions.kind import NO_BEST

TARGETS = {"sheet": {"channels": 1, "activation": "sigmoid"}, "normals": {"channels": 3, "weight": 0.75}}


def evaluator(count=4):
    found = [
        PatchRecord(
            number,
            f"patch {number}",
            {"loss": 1.0 + number, "loss_sheet": 1.0, "loss_normals": float(number)},
            {"sheet": [[4.0 + number, 10.0, 8.0]], "normals": [[90.0 * number, 9.0]]},
        )
        for number in range(count)
    ]
    result = MultiTargetResult(TARGETS, found)
    return SimpleNamespace(state=SimpleNamespace(metric_details={"multi_task": result}))


@pytest.fixture
def predictions():
    found = Patches(TARGETS, key="sheet_dice")
    found.take(evaluator())
    return found


def test_metrics_are_plain_and_tell_of_each_target(predictions):
    content = json.loads(json.dumps(predictions.metrics(intervals=True), allow_nan=False))
    assert content["metrics"]["val_loss"] == 2.5
    assert content["metrics"]["sheet_dice"] == pytest.approx(2 * 22 / 72)
    assert content["metrics"]["normals_angle"] == 15
    assert content["per_target"]["normals"] == {"angle": 15, "loss": 1.5}
    assert content["cases"] == "patches"
    assert set(content["intervals"].values()) <= {None}
    assert Patches(TARGETS, key="sheet_dice").metrics()["skipped"] == [NO_BEST]


def test_the_file_has_a_row_a_patch(predictions, tmp_path):
    predictions.write(tmp_path)
    header, *rows = (tmp_path / "val_patches.csv").read_text().splitlines()
    assert header == "case,loss,loss_sheet,loss_normals,sheet_dice,normals_angle"
    assert len(rows) == 4
    Patches(TARGETS, key="sheet_dice").write(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_the_state_survives_a_checkpoint(predictions, tmp_path):
    torch.save(predictions.best_state(), tmp_path / "state.pt")
    again = Patches(TARGETS, key="sheet_dice")
    again.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    assert again.metrics() == predictions.metrics()
    again.restore({})
    assert again.best is not None


def test_metadata_name_the_targets_of_the_run(predictions):
    formats = predictions.formats({"sheet": {"type": "probabilities"}, "pred": {}}, (1, 8, 16, 16))
    assert list(formats) == ["sheet", "normals", "pred"]
    assert formats["normals"]["type"] == formats["pred"]["type"] == "tuples"
    assert formats["sheet"]["type"] == "probabilities"
    assert formats["normals"]["num_channels"] == 3
    assert formats["normals"]["spatial_shape"] == [8, 16, 16]
    joined = {"0": "sheet 0", "1": "normals 0", "2": "normals 1", "3": "normals 2"}
    assert formats["pred"]["channel_def"] == joined
    assert formats["pred"]["num_channels"] == 4


def validation(length, previews):
    def step(engine, number):
        engine.state.batch = [{"case": f"patch {number}"}]
        logits = {"sheet": torch.zeros(1, 2, 2, 2), "normals": torch.ones(3, 2, 2, 2)}
        return [{"image": torch.full((1, 2, 2, 2), float(number)), "label": logits, "pred": logits}]

    engine = Engine(step)
    previews.attach(engine)
    engine.run(range(length))
    return [sample["case"] for sample in previews.samples]


def test_previews_are_spread_over_a_validation_and_begin_anew_with_each():
    previews = SlicePreviews(TARGETS, count=3)
    assert validation(9, previews) == ["patch 0", "patch 4", "patch 8"]
    assert validation(2, previews) == ["patch 0", "patch 1"]
    assert previews.samples[0]["pred"]["sheet"].max() == 0.5
    with pytest.raises(ConfigError, match="at least 1"):
        SlicePreviews(TARGETS, count=0)
