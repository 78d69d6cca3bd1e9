from types import SimpleNamespace

import pytest
from matplotlib.figure import Figure
from monai.bundle import ConfigParser
from tracking_server import tracking_server

from monai_ext import mlflow_outbox
from monai_ext.handlers.run_records import RunRecords, _flat_changes
from monai_ext.io import write_json
from monai_ext.runs import RunFolder

CURVES = {"loss_curves", "learning_curves"}
ITEMS = {"train": [{"case": "a", "label": 0}, {"case": "b", "label": 1}]}


@pytest.fixture
def drawn_by(tmp_path):
    """Names of the plots that ``plot`` writes, for a number of epochs and a best epoch."""
    run = RunFolder(tmp_path)
    run.open()
    predictions = SimpleNamespace(best=1, cases=None, instances=None, drawn=lambda: {"roc": Figure()})
    records = RunRecords(run, "train", ITEMS, ["no", "yes"], predictions)

    def files():
        return {path.stem: path.stat().st_ino for path in (run / "plots").glob("*.png")}

    def drawn(epochs, best_epoch):
        before = files()
        entries = [{"epoch": epoch, "train_loss": 1.0, "auc": 0.5, "lr": 0.1} for epoch in range(1, epochs + 1)]
        records.plot(SimpleNamespace(entries=entries), best_epoch)
        return {name for name, number in files().items() if before.get(name) != number}

    yield drawn
    run.close("finished")


def test_each_plot_is_drawn_when_it_has_something_new_to_show(drawn_by):
    assert drawn_by(1, 1) == {*CURVES, "roc", "class_counts"}
    assert drawn_by(2, 1) == CURVES
    assert drawn_by(2, 1) == set()
    assert drawn_by(3, 3) == {*CURVES, "roc"}


@pytest.mark.parametrize("back_at", ["epoch", "end"])
def test_a_fold_that_began_without_its_server_notes_its_run_when_it_has_one(tmp_path, monkeypatch, back_at):
    monkeypatch.setattr(mlflow_outbox, "PAUSE", {"epoch": 0, "end": 600}[back_at])
    run = RunFolder(tmp_path)
    run.open()
    with tracking_server() as server:
        tracking = {"tracking_uri": server.uri, "experiment_name": "e", "parent_run_id": "cv"}
    records = RunRecords(run, "train", ITEMS, ["no", "yes"], tracking=tracking)
    records.open(seed=0, first_epoch=None)
    assert run.record["mlflow_run_id"].startswith("later_")
    with tracking_server(server.port) as again:
        if back_at == "epoch":
            records.epoch({"epoch": 1, "train_loss": 1.0})
            assert run.record["mlflow_run_id"] == again.run["info"]["run_id"]
        records.close("finished")
    assert run.record["mlflow_run_id"] == again.run["info"]["run_id"]
    assert again.run["info"]["status"] == "FINISHED"


def test_a_later_value_is_a_parameter_of_its_own_as_mlflow_never_changes_one():
    changes = [
        {"from_epoch": 4, "setting": "max_epochs", "old": 3, "new": 9},
        {"from_epoch": 6, "setting": "train#step#on_oom", "old": "split", "new": "stop"},
    ]
    assert _flat_changes(changes) == {"max_epochs.from_epoch_4": 9, "train.step.on_oom.from_epoch_6": "stop"}


def test_a_bundle_whose_training_is_in_yaml_has_no_inference_json_but_a_warning(tmp_path, caplog):
    configs = tmp_path / "bundle" / "configs"
    write_json(configs / "inference.json", {})
    run = RunFolder(tmp_path / "runs")
    run.open()
    records = RunRecords(run, "train")
    records.bundle, records.parser = configs.parent, ConfigParser({})
    records.write_inference({}, "checkpoints/best.pt")
    assert "config/inference.json could not be made" in caplog.text
    assert "train.json" in caplog.text


class Workflow:
    """As much of a config workflow as is looked for."""

    def __init__(self, config, folder):
        self.parser = ConfigParser(config)
        self.config_root_path = folder

    def records(self, run):
        return RunRecords(run, "train")


@pytest.mark.parametrize("named", [True, False], ids=["bundle_root", "the config's place"])
def test_a_config_that_was_copied_elsewhere_belongs_to_the_bundle_that_it_names(tmp_path, named):
    bundle, other = tmp_path / "bundle", tmp_path / "other"
    for folder, version in ((bundle, "1"), (other, "2")):
        (folder / "configs").mkdir(parents=True)
        (folder / "configs" / "metadata.json").write_text(f'{{"version": "{version}"}}')
    config = {"bundle_root": str(bundle)} if named else {}
    records = Workflow(config, other / "configs").records(RunFolder(tmp_path / "runs", 1))
    assert records.bundle == (bundle if named else other)
    assert records.provenance({})["version"] == ("1" if named else "2")


def test_the_configs_of_a_run_log_as_the_bundle_does(tmp_path, monkeypatch):
    configs = tmp_path / "bundle" / "configs"
    write_json(configs / "inference.json", {})
    (configs / "logging.conf").write_text("[loggers]")
    monkeypatch.setattr("monai_ext.handlers.run_records.inference_config", lambda *_: {})
    run = RunFolder(tmp_path / "runs")
    run.open()
    records = RunRecords(run, "train")
    records.bundle, records.parser = configs.parent, ConfigParser({})
    records.write_inference({}, "checkpoints/best.pt")
    assert (run / "config" / "logging.conf").read_text() == "[loggers]"
