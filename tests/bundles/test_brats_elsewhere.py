"""The command line from wherever a user stands."""

import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
from bundle_helpers import SMALL_RESNET, user_error
from monai.bundle import run

from monai_ext.errors import ConfigError
from monai_ext.workflow import sqlite_uri

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "bundles" / "brats_resnet50"


def bundle_run(directory, config, *words):
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(config), *map(str, words)]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=600, check=False)


QUICK = {
    "num_folds": 3,
    "image_size": 32,
    "batch_size": 4,
    "max_epochs": 1,
    "max_train_batches": 1,
    "num_workers": 0,
    "plot_every": 0,
    "network_def": SMALL_RESNET,
}
QUICK_WORDS = [word for key, value in QUICK.items() for word in (f"--{key}", str(value))]
NO_TRACKING = ("--tracking_uri", "none")


@pytest.mark.slow
@pytest.mark.parametrize("place", ["repository", "bundle", "elsewhere"])
def test_trains_from_any_directory_with_data_at_their_default_place(brats_data, tmp_path, place):
    repository = tmp_path / "repository"
    shutil.copytree(BUNDLE, repository / "bundles" / "brats_resnet50")
    shutil.copytree(brats_data, repository / "data" / "brats_resnet50")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    config = {
        "repository": (repository, "bundles/brats_resnet50/configs/train.json"),
        "bundle": (repository / "bundles" / "brats_resnet50", "configs/train.json"),
        "elsewhere": (elsewhere, repository / "bundles" / "brats_resnet50" / "configs" / "train.json"),
    }
    directory, path = config[place]
    done = bundle_run(directory, path, *QUICK_WORDS, *NO_TRACKING)
    assert done.returncode == 0, done.stderr
    assert "to infer with the best checkpoint" in done.stdout
    assert list((directory / "runs" / "brats_resnet50" / "fold_1").glob("run_*/report.html"))


def test_a_user_s_mistake_is_one_last_sentence_and_exit_code_2(tmp_path):
    done = bundle_run(tmp_path, BUNDLE / "configs" / "train.json", "--optimizer", "adamm")
    assert done.returncode == 2
    assert "--optimizer adamm: unknown; did you mean 'adam'?" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"max_epoch": 3}, "--max_epoch: is no setting; did you mean --max_epochs?"),
        ({"device": "cuda:7"}, "--device cuda:7: not on this machine"),
    ],
    ids=["key", "device"],
)
def test_other_mistakes_are_told_as_well_and_leave_nothing(tmp_path, monkeypatch, setting, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((RuntimeError, ConfigError)) as caught:
        run(config_file=str(BUNDLE / "configs" / "train.json"), **setting)
    error = user_error(caught.value)
    assert isinstance(error, ConfigError)
    assert message in str(error)
    assert list(tmp_path.iterdir()) == []


def test_no_character_of_a_path_means_anything(brats_data, tmp_path, monkeypatch):
    here = tmp_path / "läuf #1, 50% ?a=b&c @home"
    here.mkdir()
    monkeypatch.chdir(here)
    shutil.copytree(BUNDLE, here / "bündel #2")
    shutil.copytree(brats_data, here / "daten #3")
    settings = {**QUICK, "dataset_dir": str(here / "daten #3"), "output_dir": str(here / "runs #4" / "brats")}
    run(config_file="bündel #2/configs/train.json", **settings)
    (folder,) = here.glob("runs #4/brats/fold_1/run_*")
    client = mlflow.MlflowClient(sqlite_uri(here / "runs #4" / "mlflow.db"))
    (experiment,) = client.search_experiments(filter_string="name = 'brats_resnet50'")
    (found,) = client.search_runs([experiment.experiment_id])
    assert {"report.html", "plots"} <= {file.path for file in client.list_artifacts(found.info.run_id)}
    run(
        config_file=str(folder / "config" / "inference.json"),
        checkpoint=str(folder / "checkpoints" / "best.pt"),
        inputs=str(here / "daten #3"),
        output_dir=str(here / "out #5"),
        num_workers=0,
    )
    assert (here / "out #5" / "predictions.csv").is_file()
    assert {path.name for path in here.iterdir()} == {"bündel #2", "daten #3", "runs #4", "out #5"}
    assert {path.name for path in (here / "runs #4").iterdir()} >= {"brats", "mlflow.db"}


def test_a_foreign_tracking_handler_makes_ours_step_back(brats_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    output = tmp_path / "runs" / "brats"
    settings = {**QUICK, "dataset_dir": str(brats_data), "tracking": "mlflow", "output_dir": str(output)}
    run(config_file=str(BUNDLE / "configs" / "train.json"), **settings)
    stores = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.db"))
    assert stores == ["runs/mlflow.db"]
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/runs/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 'brats_resnet50'")
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.status == "FINISHED"
    assert "train_loss" in found.data.metrics
    assert [file.path for file in client.list_artifacts(found.info.run_id)]
