"""The command line from wherever a user stands, and a bundle that has left the repository."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

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


@pytest.mark.slow
def test_a_zipped_bundle_works_where_it_is_unpacked(brats_data, tmp_path):
    shutil.make_archive(str(tmp_path / "bundle"), "zip", BUNDLE.parent, BUNDLE.name)
    place = tmp_path / "another place"
    with zipfile.ZipFile(tmp_path / "bundle.zip") as archive:
        archive.extractall(place)
    config = place / "brats_resnet50" / "configs" / "train.json"
    done = bundle_run(tmp_path, config, "--dataset_dir", brats_data, *QUICK_WORDS, *NO_TRACKING)
    assert done.returncode == 0, done.stderr
    (best,) = tmp_path.glob("runs/brats_resnet50/fold_1/run_*/checkpoints/best.pt")
    shutil.copy(best, place / "brats_resnet50" / "models" / "model.pt")
    inference = place / "brats_resnet50" / "configs" / "inference.json"
    done = bundle_run(tmp_path, inference, "--inputs", brats_data, "--num_workers", 0)
    assert done.returncode == 0, done.stderr
    predictions = json.loads((tmp_path / "runs" / "brats_resnet50" / "inference" / "predictions.json").read_text())
    assert len(predictions["predictions"]) == 13


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--max_epoch", "3"), "--max_epoch: the config has no 'max_epoch'; did you mean 'max_epochs'?"),
        (("--optimizer", "adamm"), "--optimizer adamm: unknown; did you mean 'adam'?"),
        (("--device", "cuda:7"), "--device cuda:7: not on this machine"),
    ],
    ids=["key", "choice", "device"],
)
def test_a_user_s_mistake_is_one_last_sentence_and_exit_code_2(tmp_path, words, message):
    done = bundle_run(tmp_path, BUNDLE / "configs" / "train.json", *words)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_foreign_tracking_handler_makes_ours_step_back(brats_data, tmp_path):
    done = bundle_run(
        tmp_path,
        BUNDLE / "configs" / "train.json",
        *QUICK_WORDS,
        *("--dataset_dir", brats_data, "--tracking", "mlflow", "--output_dir", tmp_path / "runs" / "brats"),
    )
    assert done.returncode == 0, done.stderr
    import mlflow

    stores = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.db"))
    assert stores == ["runs/mlflow.db"]
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/runs/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 'brats_resnet50'")
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.status == "FINISHED"
    assert "train_loss" in found.data.metrics
    assert [file.path for file in client.list_artifacts(found.info.run_id)]
