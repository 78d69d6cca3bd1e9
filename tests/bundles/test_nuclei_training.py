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
from bundle_helpers import rows_of, user_error
from monai.bundle import ConfigWorkflow, run
from monai.bundle.scripts import ckpt_export, onnx_export, verify_net_in_out
from typer.testing import CliRunner

from monai_ext.cli.app import app
from monai_ext.errors import DataError, WeightsError
from monai_ext.networks import VGG3D, network_settings

CLASSES = [
    [1, "Euchromatic"],
    [2, "Heterochromatic clumps"],
    [4, "Reticular"],
    [5, "Speckled"],
]


@pytest.fixture(scope="module")
def trained(nuclei_data, nuclei_configs, nuclei_settings, tmp_path_factory):
    """A finished run with everything switched on: one more block every epoch."""
    output = tmp_path_factory.mktemp("trained") / "runs" / "nuclei"
    settings = {**nuclei_settings, "max_epochs": 3, "unfreeze_interval": 1, "plot_every": 1}
    del settings["tracking_uri"]
    run(config_file=[str(nuclei_configs / "train.json")], output_dir=str(output), **settings)
    (folder,) = (output / "fold_1").glob("run_*")
    return folder


@pytest.fixture(scope="module")
def best(trained):
    return str(trained / "checkpoints" / "best_f1.pt")


def test_the_run_folder_is_laid_out_as_documented(trained):
    files = {str(path.relative_to(trained)) for path in trained.rglob("*") if path.is_file()}
    plots = ("loss_curves", "learning_curves", "confusion_matrix", "confusion_matrix_normalised", "roc", "class_counts")
    expected = {
        "run.json",
        "report.html",
        "config/config.json",
        "config/metadata.json",
        "metrics/metrics.json",
        "metrics/classification_report.txt",
        *(f"checkpoints/{name}.pt" for name in ("best_f1", "best_accuracy", "best_loss", "last", "last_previous")),
        *(f"predictions/val_{name}.npy" for name in ("probs", "preds", "labels")),
        "predictions/predictions_nuclei.csv",
        "predictions/predictions_crops.csv",
        *(f"splits/fold_1_{section}.csv" for section in ("train", "val", "test")),
        *(f"plots/{name}.png" for name in plots),
    }
    assert expected <= files
    assert [name for name in files if "partial" in name] == []


def test_class_ids_with_a_gap_become_labels_once_and_are_kept(trained):
    for name in ("best_f1", "best_accuracy", "best_loss", "last"):
        checkpoint = torch.load(trained / "checkpoints" / f"{name}.pt", weights_only=True)
        assert checkpoint["settings"]["classes"] == CLASSES
    metrics = json.loads((trained / "metrics" / "metrics.json").read_text())
    assert metrics["class_names"] == [name for _, name in CLASSES]


def test_no_nucleus_is_in_two_parts_and_the_lists_say_who_is_where(trained):
    lists = {section: rows_of(trained / "splits" / f"fold_1_{section}.csv") for section in ("train", "val", "test")}
    parts = {section: [row["sample_id"] for row in rows] for section, rows in lists.items()}
    together = [sample for part in parts.values() for sample in part]
    assert len(together) == len(set(together)) == 16
    assert {row["class_name"] for row in lists["test"]} == {name for _, name in CLASSES}


def test_a_nucleus_is_the_mean_of_its_crops(trained):
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


def test_metrics_tell_of_nuclei_and_of_crops(trained):
    metrics = json.loads((trained / "metrics" / "metrics.json").read_text())
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


def test_each_best_file_holds_the_epoch_that_its_metric_chose(trained):
    history = json.loads((trained / "metrics" / "metrics.json").read_text())["history"]
    for name, key, sign in (("best_f1", "f1", 1), ("best_accuracy", "accuracy", 1), ("best_loss", "val_loss", -1)):
        checkpoint = torch.load(trained / "checkpoints" / f"{name}.pt", weights_only=True)
        top = max(sign * entry[key] for entry in history)
        assert sign * history[checkpoint["epoch"] - 1][key] == top
        assert checkpoint["metrics"][key] == pytest.approx(sign * top)


def test_more_is_trained_from_epoch_to_epoch_and_mlflow_knows(trained):
    history = json.loads((trained / "metrics" / "metrics.json").read_text())["history"]
    trained_parameters = [entry["trained_parameters"] for entry in history]
    assert trained_parameters[0] < trained_parameters[1] < trained_parameters[2]
    record = json.loads((trained / "run.json").read_text())
    client = mlflow.MlflowClient(f"sqlite:///{trained.parents[2]}/mlflow.db")
    logged = client.get_metric_history(record["mlflow_run_id"], "trained_parameters")
    assert [int(metric.value) for metric in logged] == trained_parameters
    assert client.get_run(record["mlflow_run_id"]).info.status == "FINISHED"


def infer(nuclei_configs, nuclei_settings, output, **overrides):
    known = json.loads((nuclei_configs / "inference.json").read_text())
    settings = {key: value for key, value in nuclei_settings.items() if key in known}
    settings = {**settings, "output_dir": str(output), **overrides}
    run(config_file=str(nuclei_configs / "inference.json"), **settings)
    return rows_of(output / "predictions_nuclei.csv"), rows_of(output / "predictions_crops.csv")


@pytest.fixture(scope="module")
def unlabelled(nuclei_data, tmp_path_factory):
    """The samples alone: no CSV, no masks."""
    folder = tmp_path_factory.mktemp("unlabelled")
    for sample in sorted(nuclei_data.iterdir()):
        if sample.is_dir():
            shutil.copytree(sample / "raw", folder / sample.name / "raw")
    return folder


def test_a_folder_without_labels_gets_the_predictions_of_the_validation(
    trained, best, unlabelled, nuclei_configs, nuclei_settings, tmp_path
):
    nuclei, crops = infer(nuclei_configs, nuclei_settings, tmp_path, checkpoint=best, inputs=str(unlabelled))
    assert [row["case"] for row in nuclei] == sorted(path.name for path in unlabelled.iterdir())
    assert "label" not in nuclei[0]
    assert "label" not in crops[0]
    found = {(row["case"], row["crop_z"], row["crop_y"], row["crop_x"]): row for row in crops}
    for expected in rows_of(trained / "predictions" / "predictions_crops.csv"):
        row = found[expected["case"], expected["crop_z"], expected["crop_y"], expected["crop_x"]]
        for _, name in CLASSES:
            assert float(row[f"prob_{name}"]) == pytest.approx(float(expected[f"prob_{name}"]), abs=1e-5)


def test_a_folder_with_a_csv_keeps_the_labels_that_the_network_knows(
    best, nuclei_data, nuclei_configs, nuclei_settings, tmp_path
):
    nuclei, _ = infer(nuclei_configs, nuclei_settings, tmp_path, checkpoint=best, inputs=str(nuclei_data))
    table = {row["sample_id"]: row["class_name"] for row in rows_of(nuclei_data / "classes.csv")}
    expected = {case: "" if name == "Unclassified" else name for case, name in table.items()}
    assert {row["case"]: row["label"] for row in nuclei} == expected
    assert "" in expected.values()


def test_one_sample_folder_can_be_predicted_alone(best, unlabelled, nuclei_configs, nuclei_settings, tmp_path):
    sample = min(unlabelled.iterdir())
    nuclei, _ = infer(nuclei_configs, nuclei_settings, tmp_path, checkpoint=best, inputs=str(sample))
    assert [row["case"] for row in nuclei] == [sample.name]


def test_exports_equal_the_eager_network_and_carry_the_classes(
    trained, best, unlabelled, nuclei_configs, nuclei_settings, tmp_path
):
    known = json.loads((nuclei_configs / "inference.json").read_text())
    settings = {key: value for key, value in nuclei_settings.items() if key in known and key != "dataset_dir"}
    common = {
        "net_id": "network_def",
        "key_in_ckpt": "model",
        "ckpt_file": best,
        "checkpoint": best,
        "config_file": str(nuclei_configs / "inference.json"),
        "meta_file": str(trained / "config" / "metadata.json"),
        **settings,
    }
    ckpt_export(filepath=str(tmp_path / "model.ts"), **common)
    onnx_export(filepath=str(tmp_path / "model.onnx"), **common)
    assert network_settings(tmp_path / "model.ts") == network_settings(best)

    sample = str(min(unlabelled.iterdir()))
    eager, _ = infer(nuclei_configs, nuclei_settings, tmp_path / "eager", checkpoint=best, inputs=sample)
    scripted, _ = infer(
        nuclei_configs, nuclei_settings, tmp_path / "ts", checkpoint=str(tmp_path / "model.ts"), inputs=sample
    )
    for _, name in CLASSES:
        assert float(eager[0][f"prob_{name}"]) == pytest.approx(float(scripted[0][f"prob_{name}"]), abs=1e-5)

    import onnxruntime

    image = torch.rand(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = torch.jit.load(str(tmp_path / "model.ts")).eval()(image).detach().numpy()
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    (found,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_inference_refuses_a_checkpoint_of_another_scaling(best, unlabelled, nuclei_configs, nuclei_settings, tmp_path):
    with pytest.raises(RuntimeError) as caught:
        infer(nuclei_configs, nuclei_settings, tmp_path, checkpoint=best, inputs=str(unlabelled), scaling="unit")
    error = user_error(caught.value)
    assert isinstance(error, WeightsError)
    assert "scaling: checkpoint 'symmetric', configured 'unit'" in str(error)
    assert list(tmp_path.glob("predictions*")) == []


@pytest.mark.parametrize("section", ["test", "val"])
def test_evaluation_of_a_part(trained, best, nuclei_configs, nuclei_settings, tmp_path, section):
    run(
        config_file=[str(nuclei_configs / "train.json"), str(nuclei_configs / "evaluate.json")],
        checkpoint=best,
        section=section,
        output_dir=str(tmp_path),
        **nuclei_settings,
    )
    (folder,) = (tmp_path / "evaluation" / "fold_1").glob("run_*")
    cases = {row["case"] for row in rows_of(folder / "predictions" / "predictions_nuclei.csv")}
    assert cases == {row["sample_id"] for row in rows_of(trained / "splits" / f"fold_1_{section}.csv")}
    metrics = json.loads((folder / "metrics" / "metrics.json").read_text())
    assert (folder / "report.html").exists()
    if section == "val":
        expected = json.loads((trained / "metrics" / "metrics.json").read_text())
        for name in ("accuracy", "f1", "top2_accuracy", "val_loss"):
            assert metrics["metrics"][name] == pytest.approx(expected["metrics"][name], rel=1e-5)


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

    nuclei, _ = infer(
        nuclei_configs, nuclei_settings, tmp_path / "together", ensemble=str(record), inputs=str(unlabelled)
    )
    assert len(nuclei) == len(list(unlabelled.iterdir()))


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


@pytest.mark.parametrize(
    ("names", "kind"),
    [(["train.json"], "train"), (["train.json", "evaluate.json"], "train"), (["inference.json"], "infer")],
    ids=["train", "evaluate", "inference"],
)
def test_monai_finds_all_its_properties_without_weights(nuclei_configs, nuclei_settings, names, kind, tmp_path):
    known = {key for name in names for key in json.loads((nuclei_configs / name).read_text())}
    workflow = ConfigWorkflow(
        config_file=[str(nuclei_configs / name) for name in names],
        workflow_type=kind,
        logging_file=False,
        output_dir=str(tmp_path / "runs"),
        **{key: value for key, value in nuclei_settings.items() if key in known},
    )
    workflow.initialize()
    assert workflow.check_properties() == []
    assert list(tmp_path.rglob("run_*")) == [], "looking at a bundle must not start a run"


def test_monai_verifies_the_network_s_shapes_without_weights_or_data(nuclei_configs):
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(nuclei_configs / "metadata.json"),
        config_file=str(nuclei_configs / "inference.json"),
        device="cpu",
    )


def test_without_data_one_sentence_says_how_to_get_them(nuclei_configs, tmp_path):
    with pytest.raises(RuntimeError) as caught:
        run(config_file=str(nuclei_configs / "train.json"), dataset_dir=str(tmp_path / "absent"))
    error = user_error(caught.value)
    assert isinstance(error, DataError)
    assert "demo-data nuclei_vgg3d" in str(error)


def test_the_default_config_is_the_published_recipe(nuclei_configs):
    config = json.loads(Path(nuclei_configs / "train.json").read_text())
    assert (config["crop_size"], config["margin"], config["fmaps"], config["unfreeze_interval"]) == (80, 10, 24, 3)
    assert (config["lr"], config["weight_decay"], config["max_epochs"], config["min_lr"]) == (1e-4, 1e-3, 20, 1e-6)
