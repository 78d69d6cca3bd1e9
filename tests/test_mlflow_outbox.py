import contextlib
import json
import logging
import os
import sqlite3

import pytest
from mlflow.models import Model
from tracking_server import tracking_server

from monai_ext import mlflow_outbox
from monai_ext.errors import ConfigError, DataError
from monai_ext.handlers import MLflowTracker
from monai_ext.mlflow_entries import SEND
from monai_ext.mlflow_outbox import FILE, Outbox, read_waiting, short_waits


@pytest.fixture(autouse=True)
def one_second(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@pytest.fixture
def server():
    with tracking_server() as found:
        yield found


@pytest.fixture
def tracker(server, tmp_path):
    return MLflowTracker(server.uri, "e", "r", folder=tmp_path)


@pytest.fixture
def no_pause(monkeypatch):
    monkeypatch.setattr(mlflow_outbox, "PAUSE", 0)


def kinds(folder):
    return [entry["kind"] for entry in read_waiting(folder)]


def test_mlflow_waits_for_seconds_unless_the_user_says_otherwise(monkeypatch):
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    short_waits()
    assert 0 < int(os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"]) < 10
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "3"


def test_a_tracker_s_requests_are_short_and_not_repeated(server, monkeypatch):
    for name in ("MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"):
        monkeypatch.delenv(name)
    MLflowTracker(server.uri, "e", "r")
    assert (
        int(os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"]) * (1 + int(os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"])) < 10
    )


def test_a_server_that_never_answers_at_the_start_is_asked_once_and_named(server):
    server.fall_silent()
    with pytest.raises(ConfigError, match=rf"--tracking_uri {server.uri}: the server does not answer \(timed out\)"):
        MLflowTracker(server.uri, "e", "r")
    assert len(server.requests) == 1


def test_a_server_that_is_not_there_at_the_start_is_named(server):
    server.stop()
    with pytest.raises(ConfigError, match=r"does not answer \(.*Connection refused\); start it, or .* none"):
        MLflowTracker(server.uri, "e", "r")


def test_a_server_that_falls_silent_costs_one_time_out_and_all_is_kept(server, tracker, tmp_path, caplog):
    (tmp_path / "report.html").write_text("<html></html>")
    server.fall_silent()
    before = len(server.requests)
    for epoch in range(1, 4):
        tracker.metrics({"auc": 0.5, "loss": float("nan")}, step=epoch)
    tracker.artifact(tmp_path / "report.html")
    assert len(server.requests) == before + 1
    assert kinds(tmp_path) == ["metrics"] * 3 + ["artifact"]
    assert [record.levelname for record in caplog.records].count("WARNING") == 1
    assert f"MLflow does not answer (timed out): its entries are kept in {tmp_path / FILE}" in caplog.text


def test_a_store_that_another_process_has_locked_costs_one_time_out_and_all_is_kept(tracker, tmp_path, monkeypatch):
    asked = []

    def write(*_, **__):
        asked.append(1)
        with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db", timeout=0)) as store:  # MLflow waits for 20 s
            store.execute("BEGIN IMMEDIATE")

    monkeypatch.setitem(SEND, "metrics", write)
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        for step in (1, 2):
            tracker.metrics({"loss": 1.0}, step=step)
        tracker.finish("KILLED")
    assert asked == [1]
    assert kinds(tmp_path) == ["metrics", "metrics", "end"]


def test_what_was_kept_is_sent_in_order_when_the_server_is_back(server, tracker, tmp_path, no_pause):
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "roc.png").write_text("a picture")
    server.stop()
    tracker.parameters({"lr": 1e-4})
    tracker.metrics({"auc": 0.25}, step=1)
    tracker.artifact(tmp_path / "plots", "plots")
    assert not server.run["metrics"]
    with tracking_server(server.port) as again:
        again.runs = server.runs
        tracker.metrics({"auc": 0.75}, step=2)
    assert again.run["metrics"] == [("auc", 0.25, 1), ("auc", 0.75, 2)]
    assert again.run["params"] == {"lr": "0.0001"}
    assert again.run["files"] == {"plots/roc.png": b"a picture"}
    assert not (tmp_path / FILE).exists()


def test_the_end_of_a_run_asks_once_more_before_the_pause_is_over(server, tracker, tmp_path):
    server.fall_silent()
    tracker.metrics({"auc": 0.5}, step=1)
    server.answer_again()
    tracker.metrics({"auc": 0.75}, step=2)
    assert kinds(tmp_path) == ["metrics"] * 2
    tracker.finish()
    assert len(server.run["metrics"]) == 2
    assert server.run["info"]["status"] == "FINISHED"


def test_a_killed_run_ends_without_asking_a_server_that_was_silent(server, tracker, tmp_path, caplog, no_pause):
    server.fall_silent()
    tracker.metrics({"auc": 0.5}, step=1)
    before = len(server.requests)
    tracker.finish("KILLED")
    assert len(server.requests) == before
    assert kinds(tmp_path) == ["metrics", "end"]
    assert f'MLflow has not taken 2 entries yet; send them by: python -m monai_ext sync "{tmp_path}"' in caplog.text


def test_a_slow_server_is_caught_up_with_in_several_contacts(server, tracker, tmp_path, monkeypatch, no_pause):
    server.fall_silent()
    for epoch in range(3):
        tracker.metrics({"auc": 0.5}, step=epoch)
    server.answer_again()
    monkeypatch.setattr(mlflow_outbox, "CATCHING_UP", -1)
    tracker.metrics({"auc": 0.5}, step=3)
    assert kinds(tmp_path) == ["metrics"] * 3
    assert server.run["metrics"] == [("auc", 0.5, 3)]


def test_what_the_server_refuses_is_kept_and_holds_up_nothing(server, tracker, tmp_path, caplog):
    server.refused_metric = "odd"
    tracker.metrics({"odd": 1.0}, step=1)
    tracker.metrics({"auc": 0.5}, step=1)
    assert server.run["metrics"] == [("auc", 0.5, 1)]
    assert kinds(tmp_path) == ["metrics"]
    assert "not that one" in caplog.text


def test_a_resumed_run_sends_what_its_killed_part_could_not_and_stays_running(server, tracker, tmp_path):
    server.fall_silent()
    tracker.metrics({"auc": 0.5}, step=1)
    tracker.finish("KILLED")
    server.answer_again()
    again = MLflowTracker(server.uri, "e", "r", run_id=tracker.run_id, folder=tmp_path)
    again.metrics({"auc": 0.75}, step=2)
    assert server.run["metrics"] == [("auc", 0.5, 1), ("auc", 0.75, 2)]
    assert server.run["info"]["status"] == "RUNNING"


def test_a_server_that_falls_silent_between_the_first_requests_of_a_resume_is_not_asked_for_a_new_run(server, tracker):
    before = len(server.requests)
    server.silent_after = before + 1
    with pytest.raises(ConfigError, match="does not answer"):
        MLflowTracker(server.uri, "e", "r", run_id=tracker.run_id)
    assert len(server.requests) == before + 2


def test_entries_for_another_store_wait_for_it(server, tracker, tmp_path):
    server.stop()
    tracker.metrics({"auc": 0.5}, step=1)
    with tracking_server() as other:
        other.runs |= server.runs
        another = MLflowTracker(other.uri, "e", "r", folder=tmp_path)
        another.metrics({"auc": 0.75}, step=2)
        another.finish()
    assert not server.run["metrics"]
    assert other.runs[another.run_id]["metrics"] == [("auc", 0.75, 2)]
    assert [entry["tracking_uri"] for entry in read_waiting(tmp_path)] == [server.uri]


@pytest.fixture
def fold(server, tracker, tmp_path):
    """Tracker of a fold that begins after the server has gone."""
    server.stop()
    (tmp_path / "fold").mkdir()
    fold = MLflowTracker(server.uri, "e", "fold 2", parent_run_id=tracker.run_id, folder=tmp_path / "fold")
    fold.metrics({"auc": 0.5}, step=1)
    return fold


@pytest.fixture
def back(server, tracker):
    with tracking_server(server.port) as again:
        again.runs = {tracker.run_id: server.runs[tracker.run_id]}
        yield again


def child_of(server, parent):
    (child,) = [run for run_id, run in server.runs.items() if run_id != parent]
    return child


def test_a_fold_begins_without_the_server_that_its_cross_validation_began_with(no_pause, tracker, fold, back):
    name = fold.run_id
    fold.metrics({"auc": 0.75}, step=2)
    child = child_of(back, tracker.run_id)
    assert child["metrics"] == [("auc", 0.5, 1), ("auc", 0.75, 2)]
    assert {"key": "mlflow.parentRunId", "value": tracker.run_id} in child["tags"]
    assert fold.run_id == child["info"]["run_id"] != name


def test_a_fold_that_began_without_the_server_is_resumed_as_the_same_run(server, tracker, fold, back, tmp_path):
    fold.finish("KILLED")
    again = MLflowTracker(
        server.uri, "e", "fold 2", parent_run_id=tracker.run_id, run_id=fold.run_id, folder=tmp_path / "fold"
    )
    again.metrics({"auc": 0.75}, step=2)
    child = child_of(back, tracker.run_id)
    assert child["metrics"] == [("auc", 0.5, 1), ("auc", 0.75, 2)]
    assert child["info"]["status"] == "RUNNING"


def test_a_fold_resumed_without_the_server_keeps_its_run(server, tracker, tmp_path):
    fold = MLflowTracker(server.uri, "e", "fold 2", parent_run_id=tracker.run_id, folder=tmp_path)
    fold.finish("KILLED")
    server.stop()
    again = MLflowTracker(server.uri, "e", "r", parent_run_id=tracker.run_id, run_id=fold.run_id, folder=tmp_path)
    again.metrics({"auc": 0.75}, step=2)
    assert again.run_id == fold.run_id
    assert kinds(tmp_path) == ["metrics"]


def test_what_waits_behind_a_run_that_has_begun_meanwhile_is_kept_under_its_id(no_pause, fold, back, tmp_path):
    back.refused_metric = "auc"
    fold.metrics({"loss": 1.0}, step=2)
    assert [entry["run_id"] for entry in read_waiting(tmp_path / "fold")] == [fold.run_id]
    assert fold.run_id in back.runs


def test_without_a_folder_what_waits_is_lost_with_a_warning(server, caplog):
    tracker = MLflowTracker(server.uri, "e", "r")
    server.stop()
    tracker.metrics({"auc": 0.5}, step=1)
    tracker.finish()
    assert "MLflow has not taken 2 entries, which are lost" in caplog.text


def test_an_error_without_a_text_is_no_trouble(server, tracker, tmp_path, monkeypatch, caplog):
    def broken(*args, **kwargs):
        raise RuntimeError

    monkeypatch.setattr(tracker.client, "log_batch", broken)
    tracker.metrics({"auc": 0.5}, step=1)
    assert "MLflow did not take an entry: RuntimeError" in caplog.text


def test_a_damaged_line_is_left_out_with_a_warning(tmp_path, caplog):
    entry = {"tracking_uri": "http://x", "run_id": "1", "kind": "failed"}
    odd = [{**entry, **other} for other in ({"kind": "odd"}, {"run_id": ["1"]}, {"tracking_uri": 5}, {"path": 5})]
    lines = ['{"kind": "me', "[]", "[" * 100_000, *map(json.dumps, [*odd, entry])]
    (tmp_path / FILE).write_text("\n".join(lines))
    with caplog.at_level(logging.WARNING):
        assert read_waiting(tmp_path) == [entry]
    assert caplog.text.count("is damaged and left out") == 7


@pytest.mark.parametrize("path", ["/etc/passwd", "../secret.txt", "plots/../../secret.txt"])
def test_a_run_folder_from_elsewhere_cannot_have_other_files_sent(tmp_path, path):
    entry = {"tracking_uri": "http://x", "run_id": "1", "kind": "artifact", "path": path, "folder": None}
    (tmp_path / FILE).write_text(json.dumps(entry))
    with pytest.raises(DataError, match="line 1 names a file outside the run"):
        read_waiting(tmp_path)


def test_files_outside_the_run_are_sent_but_not_kept(server, tracker, tmp_path, tmp_path_factory, caplog):
    other = tmp_path_factory.mktemp("other") / "a.txt"
    other.write_text("x")
    tracker.artifact(other)
    assert server.run["files"] == {"a.txt": b"x"}
    server.stop()
    tracker.artifact(other)
    assert kinds(tmp_path) == []
    assert "is outside the run and not kept" in caplog.text


def test_a_model_waits_in_the_run_s_folder_while_the_server_hangs(server, tracker, tmp_path):
    folder = tmp_path / "mlflow_model"
    (folder / "data").mkdir(parents=True)
    Model().save(str(folder / "MLmodel"))
    (folder / "data" / "model.pt2").write_bytes(b"a graph")
    server.fall_silent()
    asked = len(server.requests)
    tracker.model(folder, 3)
    tracker.finish("KILLED")
    assert len(server.requests) == asked + 1
    assert kinds(tmp_path) == ["model", "end"]
    assert (folder / "MLmodel").is_file()

    server.answer_again()
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    assert Outbox(tracker.client, server.uri, moved).send_waiting() == 2
    (files,) = server.files.values()
    assert files["data/model.pt2"] == b"a graph"
    assert f"run_id: {tracker.run_id}" in files["MLmodel"].decode()
    assert not (moved / "mlflow_model").exists()


def test_a_folder_that_is_no_model_is_neither_sent_nor_removed(server, tracker, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    tracker.model(tmp_path / "checkpoints", 3)
    assert not server.models
    assert (tmp_path / "checkpoints").is_dir()
