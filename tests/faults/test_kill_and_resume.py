"""A training that is killed and resumed ends as the undisturbed one, bit for bit (R1, R3, R17)."""

import json
import os
import signal

import pytest
import torch
from trainings import finish, kill, read_all, told_by, wait_for

pytestmark = pytest.mark.slow
LOADERS = {"0": (), "2": ("--num_workers", "2")}
AGAIN = ("--checkpoint_every", "1", "--resume", "auto")


def content(run):
    last = torch.load(run / "checkpoints" / "last.pt", weights_only=True)
    timeless = [{k: v for k, v in entry.items() if "seconds" not in k} for entry in last["history"]]
    return last["model"], last["optimizer"]["state"], timeless


def assert_same(run, reference):
    model, optimizer, history = content(run)
    expected_model, expected_optimizer, expected_history = content(reference)
    assert history == expected_history
    assert all(torch.equal(model[key], expected_model[key]) for key in expected_model)
    for number, state in expected_optimizer.items():
        assert all(torch.equal(optimizer[number][key], value) for key, value in state.items())
    metrics = [json.loads((path / "metrics" / "metrics.json").read_text()) for path in (run, reference)]
    for name in ("metrics", "per_class", "confusion_matrix", "best_epoch", "intervals"):
        assert metrics[0][name] == metrics[1][name]
    assert metrics[0].get("per_target") == metrics[1].get("per_target")


def checkpoints_of(run):
    return {path.name for path in (run / "checkpoints").iterdir()}


@pytest.fixture(scope="module")
def undisturbed(training):
    """By the true command line; what is killed and resumed is forked."""
    done = training.run("undisturbed")
    assert done.returncode == 0, done.stderr
    return training.only_run("undisturbed")


@pytest.mark.parametrize("workers", ["0", "2"])
def test_kill_9_at_a_random_moment_changes_nothing(training, undisturbed, workers):
    output = f"killed_{workers}"
    # not before there is a checkpoint, nor after the end: an epoch takes less than a second
    kill(training, output, "epoch 1/3", *LOADERS[workers], pause=0.3)
    run = finish(training, output, *AGAIN, *LOADERS[workers])
    assert_same(run, undisturbed)
    assert not list(run.rglob(".*partial*"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"])
def test_a_polite_signal_ends_the_run_and_it_goes_on_exactly(training, undisturbed, number, code):
    output = f"asked_{code}"
    process = training.start(output, "--checkpoint_every", "1")
    wait_for(process, "epoch 1/3")
    process.send_signal(number)
    assert process.wait(timeout=120) == code
    run = training.only_run(output)
    assert json.loads((run / "run.json").read_text())["status"] == "killed"
    assert_same(finish(training, output, "--resume", "auto"), undisturbed)


def test_a_second_process_on_the_same_run_is_refused(training):
    process = training.fork("shared", "--max_epochs", "500", "--early_stopping_patience", "0")
    wait_for(process, "run folder")
    try:
        told = told_by(training.fork("shared", "--resume", "auto", "--max_epochs", "1"))
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert f"process {process.pid} on {os.uname().nodename} is writing to it" in told


def test_two_first_runs_on_one_fresh_mlflow_store_both_finish(training):
    uri = f"sqlite:///{training.folder}/fresh/mlflow.db"
    shared = ("--tracking_uri", uri, "--max_epochs", "1", "--max_train_batches", "1")
    processes = [training.fork(f"first_{number}", *shared) for number in range(2)]
    outputs = read_all(processes)
    assert [process.wait() for process in processes] == [0, 0], outputs

    import mlflow

    client = mlflow.MlflowClient(uri)
    (experiment,) = client.search_experiments(filter_string="name = 'brats_resnet50'")
    assert [run.info.status for run in client.search_runs([experiment.experiment_id])] == ["FINISHED"] * 2


def test_a_crash_is_marked_failed_and_told_in_one_sentence(training):
    uri = f"sqlite:///{training.folder}/crashed/mlflow.db"
    done = training.run("crashing", "--tracking_uri", uri, "--lr", "1e30", "--max_epochs", "9")
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert "non-finite" in last
    run = training.only_run("crashing")
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "failed"
    assert "Traceback" in next((run / "logs").glob("*.log")).read_text()

    import mlflow

    assert mlflow.MlflowClient(uri).get_run(record["mlflow_run_id"]).info.status == "FAILED"


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_kill_9_in_the_middle_of_an_unfreezing_schedule_changes_nothing(nuclei_training, unfrozen, epoch):
    output = f"killed_after_{epoch}"
    kill(nuclei_training, output, f"epoch {epoch}/5")
    assert_same(finish(nuclei_training, output, *AGAIN), unfrozen)


@pytest.fixture(scope="module")
def unfrozen(nuclei_training):
    return finish(nuclei_training, "undisturbed")


@pytest.fixture(scope="module")
def mapped(surface_training):
    return finish(surface_training, "undisturbed")


@pytest.mark.parametrize("workers", ["0", "2"])
def test_kill_9_with_patches_of_zarr_volumes_and_several_targets_changes_nothing(surface_training, mapped, workers):
    output = f"killed_{workers}"
    kill(surface_training, output, "epoch 1/4", *LOADERS[workers])
    assert_same(finish(surface_training, output, *AGAIN, *LOADERS[workers]), mapped)


def test_kill_9_with_several_labels_drawn_and_mixed_changes_nothing(ct_training):
    reference = finish(ct_training, "undisturbed")
    kill(ct_training, "killed", "epoch 2/4", pause=0)
    run = finish(ct_training, "killed", *AGAIN)
    assert_same(run, reference)
    assert checkpoints_of(run) == checkpoints_of(reference)


@pytest.mark.parametrize(
    "overlays", [(), ("stage_sequence.json",)], ids=["masks-with-synthetic-lesions", "classes-drawn-by-weight"]
)
def test_kill_9_in_a_stage_of_the_cascade_changes_nothing(spine_training, overlays):
    names = [f"{name}_{len(overlays)}" for name in ("undisturbed", "killed")]
    reference = finish(spine_training, names[0], overlays=overlays)
    kill(spine_training, names[1], "epoch 2/4", pause=0, overlays=overlays)
    run = finish(spine_training, names[1], *AGAIN, overlays=overlays)
    assert_same(run, reference)
    assert checkpoints_of(run) == checkpoints_of(reference)
