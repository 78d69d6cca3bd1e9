import importlib.util
import json
import os
import shutil
import struct

import mlflow
import pytest
import torch
from ignite.engine import Events
from matplotlib.figure import Figure
from monai.engines import SupervisedTrainer
from torch import nn

from monai_ext.engines import TrainingStep
from monai_ext.errors import ConfigError
from monai_ext.handlers import StandardTraining
from monai_ext.handlers.tracking import Tracking
from monai_ext.io import read_json
from monai_ext.runs import RunFolder
from monai_ext.workflow import sqlite_uri


@pytest.fixture
def train(tmp_path, empty_store):
    """Trains two epochs with some trackers, draws a preview after each, and returns the run folder and the store."""

    def training(trackers, resume=None, epochs=2, breaks=False):
        store = tmp_path / "mlflow.db"
        if not store.exists():
            shutil.copy(empty_store, store)
        network = nn.Linear(3, 2)
        given = {"trackers": trackers, "tracking_uri": sqlite_uri(store), "plot_every": 0, "run_name": "grades"}
        handler = StandardTraining(RunFolder(tmp_path, resume=resume), **given)
        trainer = SupervisedTrainer(
            device="cpu",
            max_epochs=epochs,
            train_data_loader=[{"image": torch.ones(2, 3), "label": torch.tensor([0, 1]), "case": ["a", "b"]}],
            network=network,
            optimizer=torch.optim.Adam(network.parameters(), lr=0.1),
            loss_function=nn.CrossEntropyLoss(),
            iteration_update=TrainingStep(amp=False),
            train_handlers=[handler],
            decollate=False,
        )

        def after_an_epoch(engine):
            handler.records.preview(Figure((1, 1)), engine.state.epoch)
            if breaks:
                raise KeyError("colour")

        trainer.add_event_handler(Events.EPOCH_COMPLETED, after_an_epoch)
        trainer.run()
        (run,) = (tmp_path / "fold_1").glob("run_*")
        return run, mlflow.MlflowClient(sqlite_uri(store)).search_runs(["0", "1"])

    return training


@pytest.mark.parametrize(
    ("trackers", "in_mlflow", "in_tensorboard"),
    [
        ("mlflow", 1, False),
        (["tensorboard"], 0, True),
        ([], 0, False),
    ],
    ids=["one by name", "another", "none"],
)
def test_a_training_is_tracked_by_those_that_are_named(train, trackers, in_mlflow, in_tensorboard):
    run, found = train(trackers)
    assert len(found) == in_mlflow
    assert (run / "tensorboard").is_dir() == in_tensorboard
    assert read_json(run / "run.json")["status"] == "finished"


def test_an_unknown_tracker_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="--trackers comet: no such tracker; name one or more of mlflow, tensorboard"):
        Tracking(trackers=["mlflow", "comet"])


@pytest.mark.parametrize("given", ["mlflow, tensorboard", ("mlflow", "tensorboard")], ids=str)
def test_trackers_may_stand_in_a_list_or_with_commas(given):
    assert Tracking(trackers=given).chosen == ("mlflow", "tensorboard")


def test_one_that_is_not_installed_names_its_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"--trackers wandb: isn't installed: pip install 'monai-ext\[wandb\]'"):
        Tracking(trackers="wandb")


@pytest.fixture
def wandb(monkeypatch):
    package = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_API_KEY", "")
    return package


def records_of(run):
    """All that W&B keeps of the runs in a folder, in their order."""
    from wandb.proto.wandb_internal_pb2 import Record

    return [
        Record.FromString(content)
        for file in sorted(run.glob("wandb/offline-run-*/*.wandb"))
        for content in contents(file.read_bytes())
    ]


def contents(data, head=7, block=1 << 15):
    """The records of a log in LevelDB's format: checksum, length and whether more of it follows; none spans a block."""
    place, whole = head, b""
    while place + head <= len(data):
        if block - place % block < head:
            place += block - place % block
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)
        whole += data[place + head : place + head + length]
        place += head + length
        if kind in (1, 4):
            yield whole
            whole = b""


def histories(records):
    lines = [record.history for record in records if record.WhichOneof("record_type") == "history"]
    return [{".".join(i.nested_key) or i.key: json.loads(i.value_json) for i in line.item} for line in lines]


def test_w_and_b_has_settings_curves_pictures_best_metrics_and_the_end(train, wandb):
    run, found = train(["mlflow", "wandb"])
    assert len(found) == 1
    records = records_of(run)
    kinds = {record.WhichOneof("record_type") for record in records}
    (begun,) = [record.run for record in records if record.WhichOneof("record_type") == "run"]
    assert (begun.display_name, begun.project) == ("grades", "monai_experiment")
    assert begun.run_id == read_json(run / "run.json")["wandb_run_id"]
    assert "config" in kinds
    steps = histories(records)
    assert [step["_step"] for step in steps] == [1, 2]
    assert {"train_loss", "lr", "seconds", "preview"} <= {name.split(".")[0] for name in steps[0]}
    summaries = [item for r in records if r.WhichOneof("record_type") == "summary" for item in r.summary.update]
    assert "best_train_loss" in {item.key for item in summaries}
    assert list(run.glob("wandb/offline-run-*/files/media/images/preview_*.png"))
    (end,) = [record.exit for record in records if record.WhichOneof("record_type") == "exit"]
    assert end.exit_code == 0


def test_a_failed_run_is_one_in_w_and_b_and_a_resumed_one_keeps_its_id(train, wandb, tmp_path):
    with pytest.raises(KeyError):
        train("wandb", breaks=True)
    run, _ = train("wandb", resume="auto")
    records = records_of(run)
    assert [r.exit.exit_code for r in records if r.WhichOneof("record_type") == "exit"] == [1, 0]
    assert len({r.run.run_id for r in records if r.WhichOneof("record_type") == "run"}) == 1


def test_w_and_b_that_can_not_begin_ends_before_the_first_epoch(train, wandb, monkeypatch):
    def refuse(**_):
        raise wandb.errors.UsageError("no API key configured")

    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.raises(ConfigError, match=r"--trackers wandb: W&B can't begin a run \(no API key configured\); set W"):
        train("wandb")
    assert os.environ["WANDB_ERROR_REPORTING"] == "false"
