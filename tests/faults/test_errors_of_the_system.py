"""Folders that nobody can write: every bundle ends with exit code 2 and one sentence that names the folder."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

# Neither a user nor an administrator can make a folder here.
NOWHERE = "/sys/monai_ext_nowhere"
TRAININGS = ["training", "nuclei_training", "ct_training", "surface_training", "spine_training"]


def last_line(done):
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def told_by(training, *words):
    process = training.fork(*words)
    said = process.stdout.read()
    assert process.wait() == 2, said
    assert "Traceback" not in said
    return said.splitlines()[-1]


@pytest.mark.parametrize("name", TRAININGS)
def test_an_output_that_can_not_be_written_is_one_sentence(name, request):
    told = told_by(request.getfixturevalue(name), "unused", "--output_dir", NOWHERE)
    assert told.startswith(f"error: could not write {NOWHERE}"), told
    assert "; " in told


def test_a_store_that_can_not_be_written_leaves_a_record_that_says_failed(training):
    told = told_by(training, "no_store", "--tracking_uri", f"sqlite:///{NOWHERE}/mlflow.db")
    assert told.startswith(f"error: --tracking_uri sqlite:///{NOWHERE}/mlflow.db: can't be written (")
    assert json.loads((training.only_run("no_store") / "run.json").read_text())["status"] == "failed"


def test_a_cache_that_can_not_be_written_is_one_sentence(training):
    told = told_by(training, "no_cache", "--cache_dir", NOWHERE)
    assert told.startswith(f"error: {NOWHERE}: can't be used as the cache of prepared volumes: "), told


@pytest.mark.parametrize(
    "words",
    [
        ["prepare", "brats_resnet50", "--dataset_dir", "DATA", "--output", NOWHERE],
        ["demo-data", "brats_resnet50", "--output", NOWHERE],
        ["new-bundle", "shapes_of_nobody", "--output", NOWHERE],
        ["check", "brats_resnet50", "--dataset_dir", "DATA", "--output", f"{NOWHERE}/problems.json"],
    ],
    ids=lambda words: words[0],
)
def test_commands_name_the_folder_that_can_not_be_written(training, words):
    data = str(training.settings["dataset_dir"])
    command = [sys.executable, "-m", "monai_ext", *(data if word == "DATA" else word for word in words)]
    told = last_line(subprocess.run(command, capture_output=True, text=True, check=False))
    assert told.startswith("error: ")
    assert NOWHERE in told
