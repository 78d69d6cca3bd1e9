import fcntl
import json
import shutil

import mlflow
import pytest
import torch
from torch import nn

from monai_ext.errors import ConfigError
from monai_ext.handlers.data_summary import dataset_hash, described_datasets
from monai_ext.handlers.mlflow_tracker import FAILED, MLflowTracker
from monai_ext.mlflow_network import write_network


@pytest.fixture(scope="module")
def uri(tmp_path_factory, empty_store):
    return f"sqlite:///{shutil.copy(empty_store, tmp_path_factory.mktemp('mlflow'))}"


@pytest.fixture(scope="module")
def client(uri):
    MLflowTracker(uri, "warm up", "first").finish()
    return mlflow.MlflowClient(uri)


def test_parameters_metrics_artifacts_and_end_arrive(uri, client, tmp_path):
    (tmp_path / "report.html").write_text("<html></html>")
    tracker = MLflowTracker(uri, "grades", "fold 1")
    tracker.parameters({"lr": 1e-4, "names": ["LGG", "HGG"], **{f"knob{i}": i for i in range(120)}})
    tracker.metrics({"auc": 0.75, "val_loss": float("nan"), "name": "x"}, step=1)
    tracker.metrics({"auc": 0.5}, step=2)
    tracker.artifact(tmp_path / "report.html")
    tracker.artifact(tmp_path / "absent.html")
    tracker.finish()
    run = client.get_run(tracker.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "fold 1"
    assert run.data.params["lr"] == "0.0001"
    assert len(run.data.params) == 122
    assert [m.value for m in client.get_metric_history(tracker.run_id, "auc")] == [0.75, 0.5]
    assert "val_loss" not in run.data.metrics
    assert [file.path for file in client.list_artifacts(tracker.run_id)] == ["report.html"]


def test_a_resumed_run_goes_on_in_its_own_entry(uri, client):
    first = MLflowTracker(uri, "grades", "killed")
    first.parameters({"lr": 1})
    first.finish("KILLED")
    again = MLflowTracker(uri, "grades", "killed", run_id=first.run_id)
    again.parameters({"lr": 2, "new": 3})
    assert again.run_id == first.run_id
    assert client.get_run(again.run_id).info.status == "RUNNING"
    assert client.get_run(again.run_id).data.params == {"lr": "1", "new": "3"}


def test_an_unfinished_run_is_not_taken_over_by_the_next(uri, client):
    assert MLflowTracker(uri, "grades", "same").run_id != MLflowTracker(uri, "grades", "same").run_id


def test_a_killed_run_can_be_marked(uri, client):
    killed = MLflowTracker(uri, "grades", "dead")
    MLflowTracker(uri, "grades", "next").mark_failed(killed.run_id)
    assert client.get_run(killed.run_id).info.status == FAILED


def test_children_name_their_parent(uri, client):
    parent = MLflowTracker(uri, "grades", "cv")
    child = MLflowTracker(uri, "grades", "fold", parent_run_id=parent.run_id)
    assert client.get_run(child.run_id).data.tags["mlflow.parentRunId"] == parent.run_id


@pytest.mark.parametrize("wrong", ["file:///runs", "runs/mlflow", "sqlite:////proc/no/mlflow.db"])
def test_a_store_that_cannot_be_is_refused(wrong):
    with pytest.raises(ConfigError, match="--tracking_uri"):
        MLflowTracker(wrong, "grades", "x")


def test_a_process_that_keeps_the_store_s_lock_is_not_waited_for_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr("monai_ext.handlers.mlflow_tracker._PATIENCE", 0.2)
    with open(tmp_path / ".mlflow.db.lock", "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match=r"another process has held .*/\.mlflow\.db\.lock for 0 s; end it"):
            MLflowTracker(f"sqlite:///{tmp_path}/mlflow.db", "e", "r")


def test_trouble_after_the_start_is_logged_and_never_raised(uri, client, caplog, monkeypatch):
    tracker = MLflowTracker(uri, "grades", "unlucky")
    monkeypatch.setattr("monai_ext.handlers.mlflow_tracker.time.sleep", lambda seconds: None)

    def broken(*args, **kwargs):
        raise ConnectionError("server is gone")

    monkeypatch.setattr(tracker.client, "log_batch", broken)
    tracker.metrics({"auc": 1.0})
    assert "server is gone" in caplog.text


def test_a_run_says_who_began_it_and_with_what(uri, client, monkeypatch):
    monkeypatch.setenv("LOGNAME", "ada")
    tracker = MLflowTracker(uri, "grades", "r", tags={"mlflow.source.git.commit": "abc", "mlflow.source.name": "here"})
    tags = client.get_run(tracker.run_id).data.tags
    expected = {"user": "ada", "source.type": "LOCAL", "source.git.commit": "abc", "source.name": "here"}
    assert {name: tags[f"mlflow.{name}"] for name in expected} == expected


def test_data_sets_are_inputs_and_come_once(uri, client):
    tracker = MLflowTracker(uri, "grades", "r")
    items = {"train": [{"case": "a", "label": 0}, {"case": "b", "label": 1}], "val": [{"case": "c", "label": 1}]}
    described = described_datasets("brats", {**items, "test": []}, {"dataset_dir": "/data"}, ["LGG", "HGG"])
    tracker.inputs(described)
    tracker.inputs(described)  # as a resumed run does
    found = {one.tags[0].value: one.dataset for one in client.get_run(tracker.run_id).inputs.dataset_inputs}
    assert {context: (one.name, one.digest) for context, one in found.items()} == {
        section: (f"brats {section}", dataset_hash({"": items[section]})) for section in ("train", "val")
    }
    assert json.loads(found["train"].profile) == {"num_rows": 2, "num_cases": 2, "counts": {"LGG": 1, "HGG": 1}}
    assert json.loads(found["train"].source) == {"uri": "/data"}
    assert len(client.get_run(tracker.run_id).inputs.dataset_inputs) == 2


def test_samples_have_their_own_times(uri, client):
    tracker = MLflowTracker(uri, "grades", "r")
    tracker.samples([(1_000_000, {"system/cpu": 1.0}), (1_010_000, {"system/cpu": 2.0})])
    history = client.get_metric_history(tracker.run_id, "system/cpu")
    assert [(one.timestamp, one.value) for one in history] == [(1_000_000, 1.0), (1_010_000, 2.0)]


def hand_over(tracker, network, epoch, register=None):
    folder = tracker._outbox.folder / "mlflow_model"
    write_network(network, (1, 8, 8), folder)
    tracker.model(folder, epoch, register)
    assert not folder.exists()


def test_a_model_is_there_once_with_its_metrics_and_as_versions_of_a_registered_one(uri, client, tmp_path, monkeypatch):
    tracker = MLflowTracker(uri, "models", "r", folder=tmp_path)
    tracker.metrics({"best_auc": 0.75, "auc": 0.5})
    networks = [nn.Conv2d(1, 2, 3).eval() for _ in range(2)]
    monkeypatch.chdir(tmp_path)
    images = torch.ones(1, 1, 8, 8)
    ids = []
    # The end may be written twice, and a run that went on has another best epoch.
    for epoch, network, version in [(1, networks[0], "1"), (1, networks[0], "2"), (4, networks[1], "3")]:
        hand_over(tracker, network, epoch, "cord")
        run = client.get_run(tracker.run_id)
        (model,) = client.search_logged_models([run.info.experiment_id])
        ids.append(model.model_id)
        assert (model.name, str(model.status), model.source_run_id) == ("model", "READY", tracker.run_id)
        assert {metric.key: metric.value for metric in model.metrics} == {"best_auc": 0.75}
        assert client.get_model_version("cord", version).run_id == tracker.run_id
        assert not (tmp_path / "mlflow.db").exists(), "MLflow's default store has nothing to do with it"
        for address in (f"runs:/{tracker.run_id}/model", f"models:/cord/{version}"):
            with monkeypatch.context() as user, torch.no_grad():
                user.setenv("MLFLOW_TRACKING_URI", uri)
                assert torch.equal(mlflow.pytorch.load_model(address)(images), network(images))
    assert ids[0] == ids[1] != ids[2]


def test_an_upload_that_broke_off_is_taken_up(uri, client, tmp_path, monkeypatch):
    tracker = MLflowTracker(uri, "broken off", "r", folder=tmp_path)
    network = nn.Conv2d(1, 2, 3).eval()
    write_network(network, (1, 8, 8), tmp_path / "mlflow_model")

    def broken(*_):
        raise ConnectionError("server is gone")

    with monkeypatch.context() as patch:
        patch.setattr(tracker.client, "log_model_artifacts", broken)
        tracker.model(tmp_path / "mlflow_model", 1)
    assert (tmp_path / "mlflow_model").is_dir()
    experiment = client.get_run(tracker.run_id).info.experiment_id
    (begun,) = client.search_logged_models([experiment])
    tracker.finish()
    assert not (tmp_path / "mlflow_model").exists()
    run = client.get_run(tracker.run_id)
    (model,) = client.search_logged_models([experiment])
    assert (str(model.status), run.info.status, model.model_id) == ("READY", "FINISHED", begun.model_id)
