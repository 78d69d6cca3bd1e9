"""Kills and signals before the first and after the last epoch, between folds, and at the first use of a store; what
they, and a move, have left for the next run."""

import json
import signal
import time
from types import SimpleNamespace

import pytest
from fork_server import Forked
from trainings import BUNDLES, COMMON, finish, wait_for

from monai_ext.workflow import sqlite_uri

pytestmark = pytest.mark.slow


def store_of(training, name):
    return sqlite_uri(training.folder / name / "mlflow.db")


def client_of(uri):
    import mlflow

    return mlflow.MlflowClient(uri)


def status_in_mlflow(uri, run_id):
    return client_of(uri).get_run(run_id).info.status


def record_of(run):
    return json.loads((run / "run.json").read_text())


def results_of(run):
    metrics = json.loads((run / "metrics" / "metrics.json").read_text())
    return {name: metrics[name] for name in ("metrics", "intervals", "best_epoch", "confusion_matrix", "epoch")}


@pytest.fixture(scope="module")
def undisturbed(training):
    return finish(training, "to_its_end")


@pytest.mark.parametrize("moment", ["is the best of", "memory at its peak"])
def test_a_run_killed_after_its_last_epoch_is_ended_and_not_trained_anew(training, undisturbed, moment):
    output = f"killed_at_{moment.split()[0]}"
    tracked = ("--tracking_uri", store_of(training, output))
    process = training.fork(output, *tracked)
    wait_for(process, moment)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert record_of(training.only_run(output))["status"] == "running"

    process = training.fork(output, *tracked, "--resume", "auto")
    said = process.stdout.read()
    assert process.wait() == 0, said
    run = training.only_run(output)
    record = record_of(run)
    assert record["status"] == "finished"
    assert "resumed after epoch 3" in said
    assert "epoch 1/3" not in said
    assert "The run finished." in (run / "report.html").read_text()
    assert results_of(run) == results_of(undisturbed)
    assert record["memory"].keys() == record_of(undisturbed)["memory"].keys()
    assert status_in_mlflow(tracked[1], record["mlflow_run_id"]) == "FINISHED"


@pytest.mark.parametrize("moment", ["run folder", "memory at its peak"])
def test_sigterm_before_the_first_and_after_the_last_epoch_ends_the_run_as_killed(training, moment):
    output = f"asked_at_{moment.split()[0]}"
    uri = store_of(training, output)
    process = training.fork(output, "--tracking_uri", uri)
    wait_for(process, moment)
    process.send_signal(signal.SIGTERM)
    said = process.stdout.read()
    assert process.wait() == 143, said
    record = record_of(training.only_run(output))
    assert record["status"] == "killed"
    assert status_in_mlflow(uri, record["mlflow_run_id"]) == "KILLED"
    finish(training, output, "--tracking_uri", uri, "--resume", "auto")


def pause_between_folds():
    from monai_ext.engines import cross_validation

    def pause():
        print("between two folds")
        time.sleep(60)

    cross_validation.gc = SimpleNamespace(collect=pause)


def test_sigterm_between_two_folds_ends_the_cross_validation_as_killed(training):
    uri = store_of(training, "folds")
    settings = {**COMMON, **training.settings, "output_dir": training.folder / "folds" / "brats", "tracking_uri": uri}
    words = ["cross-validate", "--config_file", BUNDLES / "brats_resnet50" / "configs" / "train.json", "--folds", "2"]
    settings.pop("num_folds")
    words += [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    process = Forked(["monai_ext", *words], training.folder, pause_between_folds)
    wait_for(process, "between two folds")
    process.send_signal(signal.SIGTERM)
    said = process.stdout.read()
    assert process.wait() == 143, said
    states = [
        record_of(path.parent)["status"] for path in (training.folder / "folds").glob("brats/fold_*/run_*/run.json")
    ]
    assert states == ["finished"]
    (parent,) = (training.folder / "folds").glob("brats/cross_validation_*/mlflow.json")
    assert status_in_mlflow(uri, json.loads(parent.read_text())["run_id"]) == "KILLED"


def test_a_run_killed_while_it_makes_the_first_store_blocks_no_other(training):
    folder = training.folder / "first_use"
    uri = store_of(training, "first_use")
    process = training.fork("killed_first", "--tracking_uri", uri)
    deadline = time.monotonic() + 300
    while not list(folder.glob(".mlflow.*.partial.db")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (folder / "mlflow.db").exists()
    run = finish(training, "next", "--tracking_uri", uri, "--max_epochs", "1")
    assert status_in_mlflow(uri, record_of(run)["mlflow_run_id"]) == "FINISHED"
    assert {path.name for path in folder.iterdir()} == {"mlflow.db", ".mlflow.db.lock", "mlruns"}


def test_records_and_a_store_that_are_damaged_stop_no_run(training):
    uri = store_of(training, "damaged")
    killed = finish(training, "damaged", "--tracking_uri", uri, "--max_epochs", "1")
    (killed / "run.json").write_text(json.dumps({**record_of(killed), "status": "killed"}))
    for second, content in enumerate((None, "", '{"status": "runn')):
        folder = killed.with_name(f"run_99991231_23595{second}")
        folder.mkdir()
        if content is not None:
            (folder / "run.json").write_text(content)
    database = training.folder / "damaged" / "mlflow.db"
    database.write_bytes(database.read_bytes()[:20000])

    process = training.fork("damaged", "--tracking_uri", uri, "--max_epochs", "2", "--resume", "auto")
    said = process.stdout.read()
    assert process.wait() == 0, said
    assert said.count("is ignored, as its record can't be read") == 3
    assert f"{database} is damaged (" in said
    record = record_of(killed)
    assert (record["status"], record["parameters"]["max_epochs"]) == ("finished", 2)
    assert status_in_mlflow(uri, record["mlflow_run_id"]) == "FINISHED"
    assert database.with_name("mlflow.db.damaged").stat().st_size == 20000


def test_runs_in_a_folder_of_any_name_have_their_artifacts_also_after_a_move(training):
    def train(name, output):
        uri = store_of(training, name)
        run = finish(training, f"{name}/{output}", "--tracking_uri", uri, "--max_epochs", "1")
        return uri, record_of(run)["mlflow_run_id"]

    before = training.folder / "läuf #1, 50%25 ?a=b"
    first = train(before.name, "first")[1]
    assert {path.name for path in before.iterdir()} == {"first", "mlflow.db", ".mlflow.db.lock", "mlruns"}
    after = before.rename(training.folder / "ümgezogen #2")
    uri, second = train(after.name, "second")
    for run in (first, second):
        assert "report.html" in {file.path for file in client_of(uri).list_artifacts(run)}
    assert {path.name for path in after.iterdir()} == {"first", "second", "mlflow.db", ".mlflow.db.lock", "mlruns"}
    assert not before.exists()
