"""Errors of the system end every bundle with exit code 2 and one sentence that names the file or folder."""

import functools
import json

import pytest
from failing_system import room_for, with_locks_of_another_user, without_links, without_locks
from fork_server import Forked
from trainings import finish, told_by

pytestmark = pytest.mark.slow

# Neither a user nor an administrator can make a folder here.
NOWHERE = "/sys/monai_ext_nowhere"
TRAININGS = ["training", "nuclei_training", "ct_training", "surface_training", "spine_training"]


@pytest.mark.parametrize("name", TRAININGS)
def test_an_output_that_can_not_be_written_is_one_sentence(name, request):
    told = told_by(request.getfixturevalue(name).fork("unused", "--output_dir", NOWHERE))
    assert told.startswith(f"error: could not write {NOWHERE}"), told
    assert "; " in told


def test_a_store_that_can_not_be_written_leaves_a_record_that_says_failed(training):
    told = told_by(training.fork("no_store", "--tracking_uri", f"sqlite:///{NOWHERE}/mlflow.db"))
    assert told.startswith(f"error: --tracking_uri sqlite:///{NOWHERE}/mlflow.db: can't be written (")
    assert json.loads((training.only_run("no_store") / "run.json").read_text())["status"] == "failed"


def test_a_cache_that_can_not_be_written_is_one_sentence(training):
    told = told_by(training.fork("no_cache", "--cache_dir", NOWHERE))
    assert told.startswith(f"error: {NOWHERE}: can't be used as the cache of prepared volumes: "), told


@pytest.mark.parametrize(
    "words",
    [
        ["prepare", "brats_resnet50", "--dataset_dir", "DATA", "--output", NOWHERE],
        ["demo-data", "brats_resnet50", "--output", NOWHERE],
        ["demo", "brats_resnet50", "--dataset_dir", f"{NOWHERE}/data"],
        ["new-bundle", "shapes_of_nobody", "--output", NOWHERE],
        ["check", "brats_resnet50", "--dataset_dir", "DATA", "--output", f"{NOWHERE}/problems.json"],
    ],
    ids=lambda words: words[0],
)
def test_commands_name_the_folder_that_can_not_be_written(training, words):
    data = str(training.settings["dataset_dir"])
    command = ["monai_ext", *(data if word == "DATA" else word for word in words)]
    told = told_by(Forked(command, training.folder))
    assert told.startswith("error: ")
    assert NOWHERE in told


@pytest.fixture
def left(training, request):
    """A run that was killed: the folder of its output, and its own."""
    output = f"left_{request.node.name}"
    run = finish(training, output, "--max_epochs", "1")
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "status": "killed"}))
    return output, run


@pytest.mark.parametrize(("file", "room"), [(".lock", 5), ("run.json", 40)])
def test_a_disk_that_is_full_at_the_beginning_is_one_sentence_and_no_folder(training, file, room):
    output = f"full_at_{file}"
    told = told_by(training.fork(output, before=functools.partial(room_for, room)))
    fold = training.folder / output / "fold_1"
    assert told.startswith(f"error: could not write {fold}/")
    assert f"/{file}: File too large; raise the limit" in told
    assert list(fold.iterdir()) == []


def test_a_log_on_a_full_disk_is_one_sentence_and_a_record_that_says_failed(training, left):
    output, run = left
    (log,) = run.glob("logs/*.log")
    log.unlink()
    log.symlink_to("/dev/full")
    told = told_by(training.fork(output, "--resume", "auto"))
    assert told == f"error: could not write {log}: No space left on device; make room there, or name another folder"
    assert json.loads((run / "run.json").read_text())["status"] == "failed"


def test_a_disk_without_locks_is_one_sentence_and_no_folder(training):
    told = told_by(training.fork("no_locks", before=without_locks))
    assert "/.lock: No locks available; its file system has no file locks" in told
    assert list((training.folder / "no_locks" / "fold_1").iterdir()) == []


def test_another_user_s_run_is_one_sentence_and_stays_as_it_is(training, left):
    output, run = left
    record = (run / "run.json").read_bytes()
    told = told_by(training.fork(output, "--resume", "auto", before=with_locks_of_another_user))
    assert told.startswith(f"error: could not write {run}/.lock: Permission denied; it is another user's or protected")
    assert (run / "run.json").read_bytes() == record


def test_an_output_without_hard_links_is_one_sentence(surface_training):
    run = finish(surface_training, "linked", "--max_epochs", "1")
    volume = next(surface_training.settings["dataset_dir"].glob("*/input.zarr"))
    output = surface_training.folder / "unlinked"
    words = ["predict-zarr", "--checkpoint", run / "checkpoints" / "best.pt", "--input", volume, "--output", output]
    told = told_by(Forked(["monai_ext", *words], surface_training.folder, without_links))
    assert f"could not write {output}/" in told
    assert "its file system has no file locks or no hard links" in told


def test_an_export_that_can_not_be_written_is_one_sentence(training, left):
    process = Forked(["monai_ext", "onnx", left[1], "--output", f"{NOWHERE}/model.onnx"], training.folder)
    assert told_by(process).startswith(f"error: could not write {NOWHERE}: ")
