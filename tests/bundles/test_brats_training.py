"""`brats_resnet50` end to end with its real network, small volumes and few steps."""

import json
import math
import shutil
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from bundle_helpers import rows_of, user_error
from monai.bundle import ConfigWorkflow, run
from monai.bundle.scripts import ckpt_export, onnx_export, verify_net_in_out

from monai_ext.errors import ConfigError, DataError, WeightsError
from monai_ext.networks import network_settings


@pytest.fixture(scope="module")
def trained(brats_data, brats_configs, brats_cache, tmp_path_factory):
    """A finished run with everything switched on."""
    output = tmp_path_factory.mktemp("trained") / "runs" / "brats"
    run(
        config_file=[str(brats_configs / "train.json")],
        dataset_dir=str(brats_data),
        cache_dir=str(brats_cache),
        output_dir=str(output),
        num_folds=3,
        image_size=32,
        batch_size=4,
        max_epochs=2,
        drw_start_epoch=2,
        num_workers=0,
    )
    (folder,) = (output / "fold_1").glob("run_*")
    return folder


def test_the_run_folder_is_laid_out_as_documented(trained):
    files = {str(path.relative_to(trained)) for path in trained.rglob("*") if path.is_file()}
    expected = {
        "run.json",
        "report.html",
        "config/config.json",
        "config/metadata.json",
        "metrics/metrics.json",
        "checkpoints/best.pt",
        "checkpoints/last.pt",
        "checkpoints/last_previous.pt",
        "predictions/val_probs.npy",
        "predictions/val_preds.npy",
        "predictions/val_labels.npy",
        "predictions/val_predictions.csv",
        "splits/fold_1_train.csv",
        "splits/fold_1_val.csv",
        *(f"plots/{name}.png" for name in ("loss_curves", "learning_curves", "confusion_matrix", "roc")),
    }
    assert expected <= files
    assert [name for name in files if "partial" in name] == []


def test_metrics_and_predictions_agree(trained):
    metrics = json.loads((trained / "metrics" / "metrics.json").read_text())
    assert {"bundle", "fold", "epoch", "best_epoch", "class_names", "metrics", "per_class", "confusion_matrix"} <= set(
        metrics
    )
    assert (metrics["bundle"], metrics["fold"], metrics["epoch"]) == ("brats_resnet50", 1, 2)
    assert [entry["epoch"] for entry in metrics["history"]] == [1, 2]
    assert all(math.isfinite(entry["train_loss"]) for entry in metrics["history"])
    assert metrics["loss_summary"]["train"].keys() == {"min", "max", "mean", "std"}
    rows = rows_of(trained / "predictions" / "val_predictions.csv")
    probabilities = np.load(trained / "predictions" / "val_probs.npy")
    assert list(rows[0]) == ["case", "prob_LGG", "prob_HGG", "prediction", "label"]
    np.testing.assert_allclose([float(row["prob_HGG"]) for row in rows], probabilities[:, 1])
    right = np.mean([row["prediction"] == row["label"] for row in rows])
    assert metrics["metrics"]["accuracy"] == pytest.approx(right)
    low, high = metrics["intervals"]["auc"]
    assert low <= metrics["metrics"]["auc"] <= high


def test_no_subject_is_on_both_sides_and_the_lists_say_who_is_where(trained):
    sides = [
        {row["patient_id"] for row in rows_of(trained / "splits" / f"fold_1_{side}.csv")} for side in ("train", "val")
    ]
    assert not sides[0] & sides[1]
    assert len(sides[0] | sides[1]) == 13


def test_mlflow_has_parameters_curves_best_metrics_and_artifacts(trained):
    record = json.loads((trained / "run.json").read_text())
    client = mlflow.MlflowClient(f"sqlite:///{trained.parents[2]}/mlflow.db")
    found = client.get_run(record["mlflow_run_id"])
    assert found.info.status == "FINISHED"
    assert found.data.params["lr"] == "0.0001"
    assert found.data.params["train_HGG"] == "5"
    assert found.data.params["data_fingerprint"] == record["data"]["fingerprint"]
    assert len(client.get_metric_history(found.info.run_id, "val_loss")) == 2
    best = json.loads((trained / "metrics" / "metrics.json").read_text())["metrics"]
    assert found.data.metrics["best_auc"] == pytest.approx(best["auc"])
    artifacts = {file.path for file in client.list_artifacts(found.info.run_id)}
    assert {"report.html", "plots", "metrics", "config", "predictions"} <= artifacts


def test_checkpoints_carry_their_settings_and_load_safely(trained):
    best = torch.load(trained / "checkpoints" / "best.pt", weights_only=True)
    assert best["settings"]["modality"] == "flair"
    assert best["settings"]["image_size"] == 32
    assert "optimizer" not in best


def test_the_metadata_are_true_for_the_run(trained):
    metadata = json.loads((trained / "config" / "metadata.json").read_text())
    formats = metadata["network_data_format"]
    assert formats["inputs"]["image"]["spatial_shape"] == [32, 32, 32]
    assert formats["outputs"]["pred"]["channel_def"] == {"0": "LGG", "1": "HGG"}
    assert metadata["settings"]["image_size"] == 32


def test_the_resolved_configuration_can_be_read_again(trained):
    config = json.loads((trained / "config" / "config.json").read_text())
    assert config["image_size"] == 32
    assert config["network_def"]["_target_"] == "monai_ext.networks.MedicalNetResNet50"


def infer(brats_configs, output, **overrides):
    # The size of the training, image_size=32, isn't repeated: the checkpoint knows it.
    settings = {"num_workers": 0, "output_dir": str(output), **overrides}
    run(config_file=str(brats_configs / "inference.json"), **settings)
    rows = rows_of(output / "predictions.csv")
    document = json.loads((output / "predictions.json").read_text())
    assert [row["case"] for row in rows] == [row["case"] for row in document["predictions"]]
    return rows


def test_inference_repeats_the_validation_of_the_best_epoch(trained, brats_data, brats_configs, tmp_path):
    rows = infer(brats_configs, tmp_path, checkpoint=str(trained / "checkpoints" / "best.pt"), inputs=str(brats_data))
    assert len(rows) == 13
    found = {row["case"]: row for row in rows}
    for expected in rows_of(trained / "predictions" / "val_predictions.csv"):
        assert float(found[expected["case"]]["prob_HGG"]) == pytest.approx(float(expected["prob_HGG"]), abs=1e-4)
        assert found[expected["case"]]["label"] == expected["label"]


def test_exports_equal_the_eager_network_in_inference(trained, brats_data, brats_configs, tmp_path):
    checkpoint = str(trained / "checkpoints" / "best.pt")
    common = {
        "net_id": "network_def",
        "config_file": str(brats_configs / "inference.json"),
        "meta_file": str(trained / "config" / "metadata.json"),
        "ckpt_file": checkpoint,
        "key_in_ckpt": "model",
    }
    ckpt_export(filepath=str(tmp_path / "model.ts"), **common)
    onnx_export(filepath=str(tmp_path / "model.onnx"), **common)
    assert network_settings(tmp_path / "model.ts") == network_settings(checkpoint)
    files = sorted(brats_data.rglob("*_flair.nii.gz"))[:2]
    inputs = [str(path) for path in files]
    eager = infer(brats_configs, tmp_path / "eager", checkpoint=checkpoint, inputs=inputs)
    scripted = infer(brats_configs, tmp_path / "ts", checkpoint=str(tmp_path / "model.ts"), inputs=inputs)
    for a, b in zip(eager, scripted, strict=True):
        assert a["case"] == b["case"]
        assert float(a["prob_HGG"]) == pytest.approx(float(b["prob_HGG"]), abs=1e-5)

    import onnxruntime

    from monai_ext.networks import MedicalNetResNet50, load_model

    image = torch.randn(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = load_model(MedicalNetResNet50(), checkpoint)(image).numpy()
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    (found,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_inference_refuses_a_checkpoint_of_other_settings(trained, brats_data, brats_configs, tmp_path):
    with pytest.raises(RuntimeError) as caught:
        infer(
            brats_configs,
            tmp_path,
            checkpoint=str(trained / "checkpoints" / "best.pt"),
            inputs=str(brats_data),
            modality="t1ce",
        )
    error = user_error(caught.value)
    assert isinstance(error, WeightsError)
    assert "modality: checkpoint 'flair', configured 't1ce'" in str(error)
    assert not (tmp_path / "predictions.csv").exists()


def test_evaluation_repeats_the_metrics_of_training(trained, brats_configs, short_run):
    settings = {**short_run, "max_train_batches": None}
    run(
        config_file=[str(brats_configs / "train.json"), str(brats_configs / "evaluate.json")],
        checkpoint=str(trained / "checkpoints" / "best.pt"),
        **settings,
    )
    (folder,) = (Path(short_run["output_dir"]) / "evaluation" / "fold_1").glob("run_*")
    found = json.loads((folder / "metrics" / "metrics.json").read_text())
    expected = json.loads((trained / "metrics" / "metrics.json").read_text())
    for name in ("accuracy", "auc", "f1"):
        assert found["metrics"][name] == pytest.approx(expected["metrics"][name])
    assert (folder / "report.html").exists()


@pytest.mark.parametrize(
    ("names", "kind"),
    [(["train.json"], "train"), (["train.json", "evaluate.json"], "train"), (["inference.json"], "infer")],
    ids=["train", "evaluate", "inference"],
)
def test_monai_finds_all_its_properties(brats_configs, brats_data, names, kind, tmp_path):
    workflow = ConfigWorkflow(
        config_file=[str(brats_configs / name) for name in names],
        workflow_type=kind,
        logging_file=False,
        dataset_dir=str(brats_data),
        output_dir=str(tmp_path / "runs"),
    )
    workflow.initialize()
    assert workflow.check_properties() == []
    assert list(tmp_path.rglob("run_*")) == [], "looking at a bundle must not start a run"


def test_monai_verifies_the_network_s_shapes(brats_configs):
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(brats_configs / "metadata.json"),
        config_file=str(brats_configs / "inference.json"),
        device="cpu",
        **{"_meta_#network_data_format#inputs#image#spatial_shape": [32, 32, 32]},
    )


def test_without_data_one_sentence_says_how_to_get_them(brats_configs, tmp_path):
    with pytest.raises(RuntimeError) as caught:
        run(config_file=str(brats_configs / "train.json"), dataset_dir=str(tmp_path / "absent"))
    error = user_error(caught.value)
    assert isinstance(error, DataError)
    assert "demo-data brats_resnet50" in str(error)


def test_a_one_class_fold_says_so_and_reports_no_auc(brats_data, brats_configs, short_run, tmp_path):
    copy = tmp_path / "data"
    shutil.copytree(brats_data, copy)
    (copy / "splits").mkdir()
    names = {grade: sorted(p.name for p in copy.rglob(f"{grade}/*") if p.is_dir()) for grade in ("HGG", "LGG")}
    sides = {"train": names["LGG"] + names["HGG"][2:], "val": names["HGG"][:2]}
    for side, cases in sides.items():
        lines = [f"{case},{'HGG' if case in names['HGG'] else 'LGG'}" for case in cases]
        (copy / "splits" / f"fold_1_{side}.csv").write_text("\n".join(["patient_id,class", *lines]) + "\n")
    run(config_file=str(brats_configs / "train.json"), **{**short_run, "dataset_dir": str(copy), "max_epochs": 1})
    (path,) = (tmp_path / "runs").rglob("metrics.json")
    metrics = json.loads(path.read_text())
    assert metrics["best_epoch"] == 0
    assert metrics["history"][0]["auc"] is None
    assert "auc" not in metrics["metrics"] or metrics["metrics"]["auc"] is None


def test_resuming_with_another_batch_size_is_refused(brats_configs, short_run):
    run(config_file=str(brats_configs / "train.json"), **{**short_run, "max_epochs": 1, "max_train_batches": 2})
    (folder,) = (Path(short_run["output_dir"]) / "fold_1").glob("run_*")
    with pytest.raises(RuntimeError) as caught:
        run(config_file=str(brats_configs / "train.json"), **{**short_run, "resume": str(folder)})
    error = user_error(caught.value)
    assert isinstance(error, ConfigError)
    assert "2 batches an epoch, this configuration 1" in str(error)
