"""A tracking server that is away costs a training seconds, and nothing else is asked for anything (R26, R27)."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fork_server import Forked
from tracking_server import tracking_server
from trainings import finish, told_by
from typer.testing import CliRunner

from monai_ext.cli.app import app
from monai_ext.mlflow_outbox import FILE, read_waiting

pytestmark = pytest.mark.slow


@pytest.fixture
def server():
    with tracking_server() as found:
        yield found


@pytest.mark.parametrize("silent", [True, False], ids=["never-answers", "refuses"])
def test_a_server_that_is_not_there_at_the_start_is_an_error_in_one_sentence(training, server, silent):
    server.fall_silent() if silent else server.stop()
    output = f"away_{silent}"
    told = told_by(training.fork(output, "--tracking_uri", server.uri))
    assert told.startswith(
        f"error: --tracking_uri {server.uri}: the server does not answer ({'timed out' if silent else '[Errno 111]'}"
    )
    assert len(server.requests) == silent
    assert json.loads((training.only_run(output) / "run.json").read_text())["status"] == "failed"


def test_a_server_that_dies_in_the_middle_stops_nothing_and_gets_all_afterwards(training, server):
    server.silent_at_step = 2
    run = finish(training, "dying", "--tracking_uri", server.uri)
    assert json.loads((run / "run.json").read_text())["status"] == "finished"
    assert len(server.requests) == server.silent_after + 2  # at epoch 2, and once more at the end
    epochs = {step for _, _, step in server.run["metrics"]}
    assert epochs == {1}
    assert server.run["info"]["status"] == "RUNNING"

    server.answer_again()
    done = CliRunner().invoke(app, ["sync", str(run)], catch_exceptions=False)
    assert f"entries to {server.uri}" in done.output
    assert not (run / FILE).exists()
    losses = [step for name, _, step in server.run["metrics"] if name == "train_loss"]
    assert losses == [1, 2, 3]
    assert {"report.html", "metrics/metrics.json", "config/config.json"} <= server.run["files"].keys()
    assert server.run["info"]["status"] == "FINISHED"


def test_sigterm_ends_a_run_whose_server_hangs_without_asking_it_again(training, server):
    server.silent_at_step = 1
    process = training.fork(
        "hanging", "--tracking_uri", server.uri, "--max_epochs", "500", "--early_stopping_patience", "0"
    )
    assert server.silence.wait(300)
    process.send_signal(signal.SIGTERM)
    said = process.stdout.read()
    assert process.wait() == 143, said
    assert len(server.requests) == server.silent_after + 1
    run = training.only_run("hanging")
    assert json.loads((run / "run.json").read_text())["status"] == "killed"
    assert read_waiting(run)[-1]["status"] == "KILLED"


def test_a_cross_validation_whose_server_dies_in_its_first_fold_trains_them_all(training, server):
    server.silent_at_step = 1
    words = training.command(
        "folds", "--tracking_uri", server.uri, "--max_epochs", "1", "--num_folds", "2", launcher=()
    )[3:]
    words = ["monai_ext", "cross-validate", "--folds", "2", *words]
    process = Forked(words, training.folder, environment={"MLFLOW_HTTP_REQUEST_TIMEOUT": "1"})
    said = process.stdout.read()
    assert process.wait() == 0, said
    assert len(server.runs) == 2  # the cross-validation and its first fold

    server.answer_again()
    (together,) = (training.folder / "folds").glob("cross_validation_*")
    folders = [together, *(training.only_run("folds", fold) for fold in (1, 2))]
    CliRunner().invoke(app, ["sync", *map(str, folders)], catch_exceptions=False)
    assert [run["info"]["status"] for run in server.runs.values()] == ["FINISHED"] * 3
    parent, *children = server.runs.values()
    assert "out_of_fold_auc" in [name for name, _, _ in parent["metrics"]]
    for run, child in zip(folders[1:], children, strict=True):
        assert {"key": "mlflow.parentRunId", "value": parent["info"]["run_id"]} in child["tags"]
        assert json.loads((run / "run.json").read_text())["mlflow_run_id"] == child["info"]["run_id"]
        assert {"train_loss", "best_auc"} <= {name for name, _, _ in child["metrics"]}


def test_no_name_but_the_tracking_server_s_is_looked_up(training, server):
    watched = Path(__file__).with_name("looked_up.py")
    store = f"sqlite:///{training.folder}/watched/mlflow.db"
    quick = ("--max_epochs", "1", "--plot_every", "1")

    def look(*commands):
        # What lets MLflow guess that it is being tested would switch its telemetry off.
        known = ("CI", "PYTEST", "GITHUB", "GITLAB", "JENKINS", "MLFLOW", "DO_NOT_TRACK")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(known)}
        done = subprocess.run(
            [sys.executable, watched, json.dumps(commands)],
            capture_output=True,
            text=True,
            cwd=training.folder,
            env={**kept, "HOME": str(training.folder)},
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return {tuple(event) for event in json.loads(done.stdout.splitlines()[-1])}

    def train(output, uri):
        return training.command(output, "--tracking_uri", uri, *quick, launcher=())[1:]

    assert look(train("served", server.uri), train("watched", store)) == {
        ("socket.getaddrinfo", "127.0.0.1"),
        ("socket.connect", "127.0.0.1"),
    }
    run = training.only_run("watched")
    checkpoint = ("--checkpoint", run / "checkpoints" / "best.pt")
    evaluate = training.command("evaluated", *checkpoint, launcher=(), overlays=("evaluate.json",))
    infer = ["monai.bundle", "run", "--config_file", str(run / "config" / "inference.json")]
    infer += ["--inputs", str(training.settings["dataset_dir"]), "--output_dir", str(training.folder / "inferred")]
    ours = [["monai_ext", "report", str(run)], ["monai_ext", "compare", "--tracking_uri", store]]
    assert look(evaluate[1:], infer, *ours) == set()
