"""`brats_resnet50` end to end with a small network, small volumes and few steps."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from bundle_helpers import SMALL_RESNET, only_run, rows_of, user_error
from contract import BundleContract
from monai.bundle import run

from monai_ext.brats.demo import make_demo
from monai_ext.errors import ConfigError, DataError
from monai_ext.handlers.load_checkpoint import best_checkpoint


def of_earlier_version(path):
    """A checkpoint to resume from, with the keys that the first ones had."""
    content = torch.load(path, weights_only=True)
    del content["provenance"]
    for part, names in {"handlers": ("rates", "memory"), "step": ("overflows", "overflows_in_a_row")}.items():
        for name in names:
            del content[part][name]
    content["handlers"]["outputs"]["columns"] = {}
    content["handlers"]["history"]["samples"] = 8.0
    parts = "model optimizer scaler step scheduler trainer handlers history rng settings"
    assert content.keys() == set(parts.split())
    assert content["step"].keys() == {"nonfinite", "events"}
    handlers = "monitors top_epochs early_stopping best_metrics outputs history"
    assert content["handlers"].keys() == set(handlers.split())
    return content


class TestBrats(BundleContract):
    bundle = "brats_resnet50"
    short = "brats"
    recipe = {"max_epochs": 2, "max_train_batches": None, "drw_start_epoch": 2, "network_def": SMALL_RESNET}
    inference = {"network_def": SMALL_RESNET}
    files = (
        *(f"predictions/val_{name}.npy" for name in ("probs", "preds", "labels")),
        "predictions/val_predictions.csv",
        *(f"splits/fold_1_{side}.csv" for side in ("train", "val")),
        *(f"plots/{name}.png" for name in ("confusion_matrix", "roc")),
    )
    scores = ("auc", "accuracy", "f1")
    other = ({"modality": "t1ce"}, "modality: checkpoint 'flair', configured 't1ce'")
    verify = {"_meta_#network_data_format#inputs#image#spatial_shape": [32, 32, 32]}

    def test_metrics_and_predictions_agree(self, trained, metrics):
        rows = rows_of(trained / "predictions" / "val_predictions.csv")
        probabilities = np.load(trained / "predictions" / "val_probs.npy")
        assert list(rows[0]) == ["case", "patient", "prob_LGG", "prob_HGG", "prediction", "label"]
        np.testing.assert_allclose([float(row["prob_HGG"]) for row in rows], probabilities[:, 1])
        right = np.mean([row["prediction"] == row["label"] for row in rows])
        assert metrics["metrics"]["accuracy"] == pytest.approx(right)
        low, high = metrics["intervals"]["accuracy"]
        assert low <= right <= high
        assert metrics["interval_methods"]["accuracy"]["unit"] == "patients"
        assert "fewer than 10" in metrics["interval_methods"]["auc"]["not_estimable"]

    def test_no_subject_is_on_both_sides_and_the_lists_say_who_is_where(self, trained):
        sides = [
            {row["patient_id"] for row in rows_of(trained / "splits" / f"fold_1_{side}.csv")}
            for side in ("train", "val")
        ]
        assert not sides[0] & sides[1]
        assert len(sides[0] | sides[1]) == 13

    def test_the_metadata_are_true_for_the_run(self, trained):
        metadata = json.loads((trained / "config" / "metadata.json").read_text())
        formats = metadata["network_data_format"]
        assert formats["inputs"]["image"]["spatial_shape"] == [32, 32, 32]
        assert formats["outputs"]["pred"]["channel_def"] == {"0": "LGG", "1": "HGG"}
        assert (metadata["settings"]["modality"], metadata["settings"]["image_size"]) == ("flair", 32)

    def test_inference_lists_all_subjects_in_one_order_with_the_labels_known(self, trained, inferred):
        rows = rows_of(inferred / "predictions.csv")
        document = json.loads((inferred / "predictions.json").read_text())
        assert [row["case"] for row in rows] == [row["case"] for row in document["predictions"]]
        assert len(rows) == 13
        labels = {row["case"]: row["label"] for row in rows}
        for expected in rows_of(trained / "predictions" / "val_predictions.csv"):
            assert labels[expected["case"]] == expected["label"]

    def test_a_run_of_an_earlier_version_goes_on(self, trained, settings, tmp_path):
        folder = shutil.copytree(trained, tmp_path / "run")
        (folder / "config" / "recipe.json").unlink()
        record = json.loads((folder / "run.json").read_text())
        for name in ("recipe", "changes", "key_metric", "warnings"):
            del record[name]
        (folder / "run.json").write_text(json.dumps(record))
        torch.save(of_earlier_version(folder / "checkpoints" / "last.pt"), folder / "checkpoints" / "last.pt")
        given = {**settings, "tracking_uri": "none", "resume": str(folder), "output_dir": str(tmp_path / "runs")}
        with pytest.raises((RuntimeError, ValueError)) as caught:
            run(config_file=self.config("train"), **{**given, "lr": 0.5})
        assert "(lr: 0.0001 → 0.5)" in str(user_error(caught.value))
        run(config_file=self.config("train"), **{**given, "max_epochs": 3})
        record = json.loads((folder / "run.json").read_text())
        assert record["changes"] == [{"from_epoch": 3, "setting": "max_epochs", "old": 2, "new": 3}]
        assert (folder / "config" / "recipe.json").is_file()


def test_a_one_class_fold_says_so_and_reports_no_auc_and_no_best_checkpoint(
    brats_data, brats_configs, short_run, tmp_path, capsys
):
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
    folder = path.parents[1]
    sentence = "there is no best checkpoint: auc could not be computed in any epoch; the last is last.pt"
    record = json.loads((folder / "run.json").read_text())
    assert (record["best_checkpoint"], record["warnings"]) == (None, [sentence])
    said = capsys.readouterr().out
    assert sentence in said
    assert "to infer with the last checkpoint" in said
    assert sentence in (folder / "report.html").read_text(encoding="utf-8")
    assert "checkpoints/last.pt" in json.loads((folder / "config" / "inference.json").read_text())["checkpoint"]
    assert not (folder / "checkpoints" / "best.pt").exists()
    with pytest.raises(DataError, match="has no best checkpoint"):
        best_checkpoint(folder)


@pytest.mark.slow
def test_resuming_with_other_data_of_another_size_is_refused(brats_configs, short_run, tmp_path):
    short_run["max_train_batches"] = None
    run(config_file=str(brats_configs / "train.json"), **{**short_run, "max_epochs": 1})
    folder = only_run(Path(short_run["output_dir"]))
    fewer = str(make_demo(tmp_path / "fewer", counts=(3, 3)))
    with pytest.raises(RuntimeError) as caught:
        run(config_file=str(brats_configs / "train.json"), **{**short_run, "dataset_dir": fewer, "resume": str(folder)})
    error = user_error(caught.value)
    assert isinstance(error, ConfigError)
    assert "2 batches per epoch, this configuration 1" in str(error)
