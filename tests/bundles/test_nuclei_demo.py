"""The whole demo of `nuclei_vgg3d`, and the same with shuffled labels as a control."""

import random
import shutil

import pytest
from bundle_helpers import evaluation, only_run, rows_of, run_demo
from monai.bundle import run

from monai_ext.networks import network_settings

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """One command from made-up data to exports; data and runs."""
    return run_demo("nuclei_vgg3d", tmp_path_factory.mktemp("demo"))


def test_fine_tuning_sorts_held_out_nuclei(demo):
    _, runs = demo
    metrics = evaluation(runs)
    assert metrics["metrics"]["f1"] >= 0.9
    assert sum(map(sum, metrics["confusion_matrix"])) == 18


def test_the_demo_predicts_and_exports(demo):
    data, runs = demo
    cases = {row["case"] for row in rows_of(runs / "inference" / "predictions_nuclei.csv")}
    assert cases == {path.name for path in data.iterdir() if path.is_dir()}
    folder = only_run(runs)
    assert network_settings(folder / "model.ts") == network_settings(folder / "checkpoints" / "best_f1.pt")
    assert (folder / "model.onnx").stat().st_size > 0


def test_with_shuffled_labels_it_is_at_chance(demo, nuclei_configs, tmp_path):
    data, runs = demo
    shutil.copytree(data, tmp_path / "data")
    rows = rows_of(data / "classes.csv")
    classes = [(row["class_id"], row["class_name"]) for row in rows]
    random.Random(0).shuffle(classes)
    lines = [f"{row['sample_id']},{number},{name}" for row, (number, name) in zip(rows, classes, strict=True)]
    (tmp_path / "data" / "classes.csv").write_text("\n".join(["sample_id,class_id,class_name", *lines]) + "\n")

    files = [str(nuclei_configs / name) for name in ("train.json", "demo.json")]
    settings = {
        "dataset_dir": str(tmp_path / "data"),
        "output_dir": str(tmp_path / "runs"),
        "pretrained_path": str(only_run(runs.with_name("runs_pretraining")) / "checkpoints" / "best_f1.pt"),
        "early_stopping_patience": 0,
        "tracking_uri": "none",
        "plot_every": 0,
        # After as many the true labels are learnt.
        "max_epochs": 6,
    }
    run(config_file=files, **settings)
    # The last epoch: the best one was picked on few nuclei, which alone lifts it above chance there.
    last = only_run(tmp_path / "runs") / "checkpoints" / "last.pt"
    run(config_file=[*files, str(nuclei_configs / "evaluate.json")], checkpoint=str(last), **settings)
    metrics = evaluation(tmp_path / "runs")
    # Four classes: 10 or more right of 18 by chance has a probability of 0.5 %.
    assert metrics["metrics"]["accuracy"] < 10 / 18
    assert metrics["metrics"]["f1"] < 0.55
