import json
import shutil

import pytest
import typer
from tracking_server import tracking_server
from typer.testing import CliRunner

from monai_ext.cli.sync import sync
from monai_ext.errors import ConfigError, DataError, RunLockedError
from monai_ext.handlers import MLflowTracker
from monai_ext.mlflow_outbox import FILE, read_waiting
from monai_ext.runs import RunFolder
from monai_ext.workflow import sqlite_uri

app = typer.Typer()
app.command()(sync)


@pytest.fixture
def server():
    with tracking_server() as found:
        yield found


@pytest.fixture
def run_dir(server, tmp_path):
    """Folder of a run whose server went away."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "report.html").write_text("<html></html>")
    tracker = MLflowTracker(server.uri, "e", "r", folder=folder)
    server.stop()
    tracker.parameters({"name": "Müller"})
    tracker.metrics({"auc": 0.5}, step=1)
    tracker.artifact(folder / "report.html")
    tracker.finish()
    return folder


def invoke(*words):
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False).output


def test_a_run_is_sent_wherever_its_folder_lies_now(server, run_dir):
    moved = run_dir.rename(run_dir.with_name("moved run"))
    with tracking_server(server.port) as again:
        again.runs = server.runs
        assert invoke(moved).splitlines()[-1] == f"{moved}: sent 4 entries to {server.uri}"
    assert server.run["params"] == {"name": "Müller"}
    assert server.run["metrics"] == [("auc", 0.5, 1)]
    assert server.run["files"] == {"report.html": b"<html></html>"}
    assert server.run["info"]["status"] == "FINISHED"
    assert invoke(moved) == f"{moved}: nothing waits for MLflow\n"


def test_a_fold_that_began_without_the_server_has_its_id_from_then_on(server, tmp_path):
    server.stop()
    tracker = MLflowTracker(server.uri, "e", "fold 2", parent_run_id="cv", folder=tmp_path)
    tracker.finish()
    (tmp_path / "run.json").write_text(json.dumps({"status": "finished", "mlflow_run_id": tracker.run_id}))
    with tracking_server(server.port) as again:
        invoke(tmp_path)
    assert again.run["info"]["status"] == "FINISHED"
    record = json.loads((tmp_path / "run.json").read_text())
    assert record == {"status": "finished", "mlflow_run_id": again.run["info"]["run_id"]}


def test_while_the_server_is_away_all_is_kept(run_dir, server):
    before = (run_dir / FILE).read_text()
    with pytest.raises(ConfigError, match=rf"4 entries still wait for MLflow at {server.uri} \(.*refused\); call sync"):
        invoke(run_dir)
    assert (run_dir / FILE).read_text() == before


def test_what_is_refused_is_kept_and_said(server, run_dir):
    with tracking_server(server.port) as again:
        again.runs, again.refused_metric = server.runs, "auc"
        with pytest.raises(ConfigError, match=r"1 entries still wait .* \(.*not that one\)"):
            invoke(run_dir)
    assert [entry["kind"] for entry in read_waiting(run_dir)] == ["metrics"]
    assert server.run["info"]["status"] == "FINISHED"


def test_a_run_without_anything_to_send_says_so(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"status": "finished"}))
    assert invoke(tmp_path) == f"{tmp_path}: nothing waits for MLflow\n"


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere: is not a folder"):
        invoke(tmp_path / "nowhere")


def test_a_run_that_is_being_trained_is_left_alone(tmp_path, monkeypatch):
    run = RunFolder(tmp_path)
    folder = run.open()
    # A lock doesn't exclude its own process.
    monkeypatch.setattr("monai_ext.runs.being_written", lambda run: run == folder)
    with pytest.raises(RunLockedError, match="is being trained"):
        invoke(folder)
    run.close("finished")


def test_a_store_that_mlflow_can_not_use_is_named(tmp_path):
    entry = {"tracking_uri": "ftp://x", "run_id": "1", "kind": "failed"}
    (tmp_path / FILE).write_text(json.dumps(entry))
    with pytest.raises(ConfigError, match="what waits is for ftp://x, which MLflow can't use"):
        invoke(tmp_path)


def test_a_store_in_a_folder_of_any_name_leaves_no_other_folder(tmp_path, empty_store):
    store = tmp_path / "50%25 ?x"
    (run_dir := tmp_path / "run").mkdir()
    store.mkdir()
    shutil.copy(empty_store, store / "mlflow.db")
    tracker = MLflowTracker(sqlite_uri(store / "mlflow.db"), "e", "r")
    again = f"{tracker.tracking_uri}?timeout=5"  # as another process: MLflow keeps the stores that it has opened
    entry = {"tracking_uri": again, "run_id": tracker.run_id, "kind": "failed"}
    (run_dir / FILE).write_text(json.dumps(entry))
    assert "sent 1 entries" in invoke(run_dir)
    assert {path.name for path in tmp_path.iterdir()} == {store.name, "run"}
