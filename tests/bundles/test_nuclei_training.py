"""`nuclei_vgg3d` end to end on small, made-up nuclei with a narrow network and few steps."""

import json
import math
import shutil
from collections import defaultdict
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from bundle_helpers import only_run, rows_of
from contract import BundleContract
from monai.bundle import run
from typer.testing import CliRunner

from monai_ext.cli.app import app
from monai_ext.networks import VGG3D

CLASSES = [
    [1, "Euchromatic"],
    [2, "Heterochromatic clumps"],
    [4, "Reticular"],
    [5, "Speckled"],
]


@pytest.fixture(scope="module")
def unlabelled(nuclei_data, tmp_path_factory):
    """The samples alone: no CSV, no masks."""
    folder = tmp_path_factory.mktemp("unlabelled")
    for sample in sorted(nuclei_data.iterdir()):
        if sample.is_dir():
            shutil.copytree(sample / "raw", folder / sample.name / "raw")
    return folder


class TestNuclei(BundleContract):
    bundle = "nuclei_vgg3d"
    short = "nuclei"
    # One more block every epoch.
    recipe = {"max_epochs": 3, "unfreeze_interval": 1}
    small_input = {"_meta_#network_data_format#inputs#image#spatial_shape": [32, 32, 32]}
    best = "best_f1"
    checkpoints = ("best_f1", "best_accuracy", "best_loss")
    files = (
        "metrics/classification_report.txt",
        *(f"predictions/val_{name}.npy" for name in ("probs", "preds", "labels")),
        "predictions/predictions_nuclei.csv",
        "predictions/predictions_crops.csv",
        *(f"splits/fold_1_{section}.csv" for section in ("train", "val", "test")),
        *(f"plots/{name}.png" for name in ("confusion_matrix", "confusion_matrix_normalised", "roc", "class_counts")),
    )
    tables = ("predictions_crops.csv", "predictions_crops.csv")
    scores = ("f1", "accuracy", "top2_accuracy", "val_loss")
    other = ({"scaling": "unit"}, "scaling: checkpoint 'symmetric', configured 'unit'")

    def test_class_ids_with_a_gap_become_labels_once_and_are_kept(self, trained, metrics):
        for name in ("best_f1", "best_accuracy", "best_loss", "last"):
            checkpoint = torch.load(trained / "checkpoints" / f"{name}.pt", weights_only=True)
            assert checkpoint["settings"]["classes"] == CLASSES
        assert metrics["class_names"] == [name for _, name in CLASSES]

    def test_no_nucleus_is_in_two_parts_and_the_lists_say_who_is_where(self, trained):
        lists = {section: rows_of(trained / "splits" / f"fold_1_{section}.csv") for section in ("train", "val", "test")}
        parts = {section: [row["sample_id"] for row in rows] for section, rows in lists.items()}
        together = [sample for part in parts.values() for sample in part]
        assert len(together) == len(set(together)) == 16
        assert {row["class_name"] for row in lists["test"]} == {name for _, name in CLASSES}

    def test_a_nucleus_is_the_mean_of_its_crops(self, trained):
        crops = defaultdict(list)
        columns = [f"prob_{name}" for _, name in CLASSES]
        for row in rows_of(trained / "predictions" / "predictions_crops.csv"):
            assert list(row) == ["case", "crop_z", "crop_y", "crop_x", *columns, "prediction", "label"]
            crops[row["case"]].append([float(row[column]) for column in columns])
        nuclei = rows_of(trained / "predictions" / "predictions_nuclei.csv")
        assert {row["case"] for row in nuclei} == set(crops)
        assert any(len(found) > 1 for found in crops.values())
        for row in nuclei:
            mean = np.mean(crops[row["case"]], axis=0)
            np.testing.assert_allclose([float(row[column]) for column in columns], mean, atol=1e-6)
            assert row["prediction"] == CLASSES[int(mean.argmax())][1]

    def test_metrics_tell_of_nuclei_and_of_crops(self, trained, metrics):
        nuclei = rows_of(trained / "predictions" / "predictions_nuclei.csv")
        crops = rows_of(trained / "predictions" / "predictions_crops.csv")
        for rows, found in ((nuclei, metrics), (crops, metrics["parts"])):
            right = np.mean([row["prediction"] == row["label"] for row in rows])
            assert found["metrics"]["accuracy"] == pytest.approx(right)
            assert found["metrics"]["accuracy"] <= found["metrics"]["top2_accuracy"] <= 1
            assert sum(map(sum, found["confusion_matrix"])) == len(rows)
        assert len(crops) > len(nuclei)
        assert metrics["key_metric"] == "f1"
        entry = metrics["history"][metrics["best_epoch"] - 1]
        assert entry["f1"] == pytest.approx(metrics["metrics"]["f1"])
        assert entry["crops_f1"] == pytest.approx(metrics["parts"]["metrics"]["f1"])

    def test_each_best_file_holds_the_epoch_that_its_metric_chose(self, trained, metrics):
        history = metrics["history"]
        for name, key, sign in (("best_f1", "f1", 1), ("best_accuracy", "accuracy", 1), ("best_loss", "val_loss", -1)):
            checkpoint = torch.load(trained / "checkpoints" / f"{name}.pt", weights_only=True)
            top = max(sign * entry[key] for entry in history)
            assert sign * history[checkpoint["epoch"] - 1][key] == top
            assert checkpoint["metrics"][key] == pytest.approx(sign * top)

    def test_more_is_trained_from_epoch_to_epoch_and_mlflow_knows(self, trained, metrics):
        history = metrics["history"]
        trained_parameters = [entry["trained_parameters"] for entry in history]
        assert trained_parameters[0] < trained_parameters[1] < trained_parameters[2]
        record = json.loads((trained / "run.json").read_text())
        client = mlflow.MlflowClient(f"sqlite:///{trained.parents[2]}/mlflow.db")
        logged = client.get_metric_history(record["mlflow_run_id"], "trained_parameters")
        assert [int(metric.value) for metric in logged] == trained_parameters
        assert client.get_run(record["mlflow_run_id"]).info.status == "FINISHED"

    def test_samples_without_labels_get_rows_without_labels(self, checkpoint, inferred, unlabelled, tmp_path):
        crops = self.infer(unlabelled, checkpoint, tmp_path)
        nuclei = rows_of(tmp_path / "predictions_nuclei.csv")
        assert [row["case"] for row in nuclei] == sorted(path.name for path in unlabelled.iterdir())
        assert "label" not in nuclei[0]
        assert "label" not in rows_of(tmp_path / "predictions_crops.csv")[0]
        self.assert_equal(crops, self.predictions(inferred))

    def test_a_folder_with_a_csv_keeps_the_labels_that_the_network_knows(self, data, inferred):
        nuclei = rows_of(inferred / "predictions_nuclei.csv")
        table = {row["sample_id"]: row["class_name"] for row in rows_of(data / "classes.csv")}
        expected = {case: "" if name == "Unclassified" else name for case, name in table.items()}
        assert {row["case"]: row["label"] for row in nuclei} == expected
        assert "" in expected.values()

    def test_one_sample_folder_can_be_predicted_alone(self, checkpoint, unlabelled, tmp_path):
        sample = min(unlabelled.iterdir())
        self.infer(sample, checkpoint, tmp_path)
        assert [row["case"] for row in rows_of(tmp_path / "predictions_nuclei.csv")] == [sample.name]

    def test_evaluation_is_of_the_test_part_unless_told_otherwise(self, trained, checkpoint, settings, tmp_path):
        settings = {**settings, "tracking_uri": "none"}
        run(config_file=self.config("train", "evaluate"), checkpoint=checkpoint, output_dir=str(tmp_path), **settings)
        predictions = only_run(tmp_path / "evaluation") / "predictions" / "predictions_nuclei.csv"
        listed = rows_of(trained / "splits" / "fold_1_test.csv")
        assert {row["case"] for row in rows_of(predictions)} == {row["sample_id"] for row in listed}


@pytest.mark.slow
def test_cross_validation_is_by_nucleus_and_its_networks_predict_together(
    nuclei_configs, nuclei_settings, unlabelled, tmp_path
):
    settings = {**nuclei_settings, "max_train_batches": 1, "output_dir": str(tmp_path / "runs")}
    del settings["num_folds"]
    words = ["cross-validate", "--config_file", str(nuclei_configs / "train.json"), "--folds", "2"]
    words += [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0
    (record,) = (tmp_path / "runs").glob("cross_validation_*/cross_validation.json")
    content = json.loads(record.read_text())
    assert content["settings"]["classes"] == CLASSES
    cases = [row["case"] for row in rows_of(record.with_name("out_of_fold.csv"))]
    assert len(cases) == len(set(cases)) == 12  # four of sixteen are the test part
    assert record.with_name("report.html").exists()

    together = {"ensemble": str(record), "inputs": str(unlabelled), "output_dir": str(tmp_path / "together")}
    run(config_file=str(nuclei_configs / "inference.json"), num_workers=0, **together)
    nuclei = rows_of(tmp_path / "together" / "predictions_nuclei.csv")
    assert len(nuclei) == len(list(unlabelled.iterdir()))


@pytest.mark.slow
@pytest.mark.parametrize(
    "changed",
    [
        {"loss": "focal", "optimizer": "sgd", "scheduler": "plateau", "unfreeze_interval": 0},
        {"loss": "ldam", "drw_start_epoch": 1, "optimizer": "adamw", "scheduler": "constant", "unfreeze_lr": 1e-5},
        {"use_mask": True, "min_nucleus": 0.1, "percentiles": [1, 99], "scaling": "unit", "val_device": "cpu"},
        {"target_size": 24, "class_ids": [1, 4], "sample_percent": 80, "test_fraction": 0, "num_workers": 2},
        {"classifier": "vgg3d", "crop_size": [16, 16, 16], "margin": 0, "frozen_classifier_layers": [1, 2]},
    ],
    ids=["focal-sgd-plateau", "ldam-weights-adamw", "mask-percentiles-unit", "resampled-two-classes", "vgg3d-frozen"],
)
def test_every_choice_trains(nuclei_configs, nuclei_settings, tmp_path, changed):
    settings = {**nuclei_settings, "max_epochs": 2, "max_train_batches": 1, "max_val_batches": 1, **changed}
    run(config_file=[str(nuclei_configs / "train.json")], output_dir=str(tmp_path), **settings)
    (path,) = tmp_path.glob("fold_1/run_*/metrics/metrics.json")
    history = json.loads(path.read_text())["history"]
    assert [entry["epoch"] for entry in history] == [1, 2]
    assert all(math.isfinite(entry["train_loss"]) for entry in history)


def test_pretrained_features_are_loaded_and_stay_while_they_are_frozen(nuclei_configs, nuclei_settings, tmp_path):
    torch.manual_seed(3)
    reference = VGG3D((16, 16, 16), fmaps=4)
    torch.save({"model_state_dict": reference.state_dict()}, tmp_path / "production.checkpoint")
    settings = {**nuclei_settings, "pretrained_path": str(tmp_path / "production.checkpoint"), "max_epochs": 1}
    run(config_file=[str(nuclei_configs / "train.json")], output_dir=str(tmp_path / "runs"), **settings)
    (last,) = tmp_path.glob("runs/fold_1/run_*/checkpoints/last.pt")
    model = torch.load(last, weights_only=True)["model"]
    for key, value in reference.features.state_dict().items():
        assert torch.equal(model[f"features.{key}"], value), key


def test_the_default_config_is_the_published_recipe(nuclei_configs):
    config = json.loads(Path(nuclei_configs / "train.json").read_text())
    assert (config["crop_size"], config["margin"], config["fmaps"], config["unfreeze_interval"]) == (80, 10, 24, 3)
    assert (config["lr"], config["weight_decay"], config["max_epochs"], config["min_lr"]) == (1e-4, 1e-3, 20, 1e-6)
