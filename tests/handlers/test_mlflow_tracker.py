import shutil

import mlflow
import pytest

from monai_ext.errors import ConfigError
from monai_ext.handlers.mlflow_tracker import FAILED, MLflowTracker


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


def test_trouble_after_the_start_is_logged_and_never_raised(uri, client, caplog, monkeypatch):
    tracker = MLflowTracker(uri, "grades", "unlucky")
    monkeypatch.setattr("monai_ext.handlers.mlflow_tracker.time.sleep", lambda seconds: None)

    def broken(*args, **kwargs):
        raise ConnectionError("server is gone")

    monkeypatch.setattr(tracker.client, "log_batch", broken)
    tracker.metrics({"auc": 1.0})
    assert "server is gone" in caplog.text
