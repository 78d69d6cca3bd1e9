"""`ct_rate_multilabel` end to end on small, made-up chests with few steps."""

import csv
import json
import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from bundle_helpers import only_run, rows_of, user_error
from contract import BundleContract
from monai.bundle import ConfigParser, run
from typer.testing import CliRunner

from monai_ext import ct_rate
from monai_ext.cli.app import app
from monai_ext.ct_rate import LABELS
from monai_ext.ct_rate.chest_ct import read_chest_ct
from monai_ext.engines.cross_validation import CrossValidation
from monai_ext.errors import ConfigError
from monai_ext.networks import SliceClassifier, saved_thresholds

GOLDEN = Path(__file__).parents[1] / "golden"


def train(ct_configs, output, overlays=(), **settings):
    files = [str(ct_configs / name) for name in ("train.json", *overlays)]
    run(config_file=files, output_dir=str(output), **settings)
    (folder,) = output.glob("evaluation/fold_1/run_*" if overlays else "fold_1/run_*")
    return folder


def metrics_of(folder):
    return json.loads((folder / "metrics" / "metrics.json").read_text())


def infer(ct_configs, output, checkpoint, inputs, **settings):
    run(
        config_file=str(ct_configs / "inference.json"),
        output_dir=str(output),
        checkpoint=str(checkpoint),
        inputs=str(inputs),
        num_workers=0,
        **settings,
    )
    return output


@pytest.fixture(scope="module")
def slices_dir(ct_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("slices")
    assert ct_rate.extract_slices(ct_rate.volumes(ct_data), folder, num_slices=3, size=32, workers=0) == []
    return folder


class TestCt(BundleContract):
    bundle = "ct_rate_multilabel"
    short = "ct"
    recipe = {"max_epochs": 4, "attention": "cbam"}
    files = (
        "predictions/val_predictions.csv",
        *(f"splits/fold_1_{section}.csv" for section in ("train", "val", "test")),
    )
    scores = ("auroc", "val_loss")
    other = ({"classes": list(LABELS[::-1])}, "classes")

    def test_the_best_three_epochs_and_the_last_are_kept(self, trained, metrics):
        files = {path.name for path in (trained / "checkpoints").iterdir()}
        history = metrics["history"]
        ranked = sorted(history, key=lambda entry: (entry["val_loss"], entry["epoch"]))
        tops = {f"best_epoch_{entry['epoch']:03d}.pt" for entry in ranked[:3]}
        assert files == {"best.pt", "last.pt", "last_previous.pt", *tops}
        best = torch.load(trained / "checkpoints" / "best.pt", weights_only=True)
        assert best["epoch"] == ranked[0]["epoch"]
        assert best["settings"]["classes"] == list(LABELS)
        assert len(best["thresholds"]) == 18

    def test_no_patient_is_in_two_parts(self, trained):
        parts = [
            {row["volume"].rsplit("_", 2)[0] for row in rows_of(trained / "splits" / f"fold_1_{section}.csv")}
            for section in ("train", "val", "test")
        ]
        assert all(parts)
        assert sum(map(len, parts)) == len(set.union(*parts)) == 13
        assert parts[2] == {"valid_1", "valid_2", "valid_3"}

    def test_the_lists_of_volumes_and_the_report_say_how_each_was_read(self, trained, data):
        right = {v.name: str(read_chest_ct(v.path, v.rescale).reading) for v in ct_rate.volumes(data).volumes}
        lists = {s: rows_of(trained / "splits" / f"fold_1_{s}.csv") for s in ("train", "val", "test")}
        read = {row["volume"]: row["reading"] for s in ("train", "val") for row in lists[s] if row["reading"]}
        assert read == {name: right[name] for name in read}
        assert len(read) >= len(lists["val"]) + 4  # an epoch of this training takes few of its volumes
        assert {row["reading"] for row in lists["test"]} == {""}  # which no training reads
        counts = Counter(read.values())
        assert len(counts) == 3
        assert json.loads((trained / "run.json").read_text())["data"]["readings"] == counts
        report = (trained / "report.html").read_text()
        assert all(f"Read by {way}: {count} cases." in report for way, count in counts.items())

    def test_labels_of_one_value_are_said_and_not_scored(self, metrics):
        assert metrics["per_class"]["Hiatal hernia"]["auroc"] is None
        assert any("Hiatal hernia" in sentence for sentence in metrics["skipped"])

    def test_evaluation_takes_the_newest_run_s_best_checkpoint_and_its_thresholds(self, trained, metrics, settings):
        given = {**settings, "section": "val", "tracking_uri": "none", "output_dir": str(trained.parents[1])}
        run(config_file=self.config("train", "evaluate"), **given)
        found = metrics_of(only_run(trained.parents[1] / "evaluation"))
        assert found["metrics"]["auroc"] == pytest.approx(metrics["metrics"]["auroc"])
        assert found["thresholds"] == saved_thresholds(trained / "checkpoints" / "best.pt")

    def test_inference_lists_all_volumes_and_says_the_labels_order(self, data, inferred):
        rows = rows_of(inferred / "predictions.csv")
        assert {row["case"] for row in rows} == {volume.name for volume in ct_rate.volumes(data).volumes}
        ways = {"header (slope 1, intercept -1024)", "metadata table (slope 1, intercept -8192)", "stored values"}
        assert {row["reading"] for row in rows} == ways
        assert json.loads((inferred / "predictions.json").read_text())["class_names"] == list(LABELS)

    def test_extracted_slices_and_volumes_get_the_same_predictions(self, checkpoint, inferred, slices_dir, tmp_path):
        self.assert_equal(self.infer(slices_dir, checkpoint, tmp_path), self.predictions(inferred))

    def test_an_export_carries_the_thresholds(self, exported, checkpoint):
        assert saved_thresholds(exported / "model.ts") == saved_thresholds(checkpoint)


def test_a_slice_network_is_scored_by_slice_and_volume_and_predicts_both(
    ct_configs, ct_settings, ct_data, slices_dir, tmp_path
):
    settings = {**ct_settings, "architecture": "slice", "slices_dir": str(slices_dir), "in_channels": 3}
    folder = train(ct_configs, tmp_path / "runs", **settings)
    metrics = metrics_of(folder)
    assert metrics["parts"]["name"] == "slices"
    slices = rows_of(folder / "predictions" / "predictions_slices.csv")
    volumes = rows_of(folder / "predictions" / "predictions_volumes.csv")
    assert len(slices) == 3 * len(volumes)
    assert "" not in {row["reading"] for row in rows_of(folder / "splits" / "fold_1_train.csv")}

    best = folder / "checkpoints" / "best.pt"
    by_slice = rows_of(infer(ct_configs, tmp_path / "s", best, slices_dir) / "predictions_volumes.csv")
    by_volume = rows_of(infer(ct_configs, tmp_path / "v", best, ct_data) / "predictions.csv")
    found = {row["case"]: row for row in by_volume}
    for row in by_slice:
        for name in LABELS:
            assert float(row[f"prob_{name}"]) == pytest.approx(float(found[row["case"]][f"prob_{name}"]), abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changed",
    [
        {"backbone": "resnet50", "focal_balanced": True, "pooling": "mean", "cutmix_prob": 1.0, "optimizer": "sgd"},
        {"loss": "bce", "attention": "se", "pooling": "max", "weighted_sampler": True, "scheduler": "cosine"},
        {"loss": "asl", "multiscale": True, "mixup_prob": 1.0, "class_weights": False, "monitor": "auroc"},
        {"backbone": "efficientnet_b0", "in_channels": 3, "unfreeze_epoch": 2, "classes": list(LABELS[7:10])},
        {"attention": "cbam", "freeze_backbone": True, "unfreeze_epoch": 2},
        {"architecture": "resnet3d", "volume_size": [32, 32, 32], "spacing": [8, 6, 6], "freeze_backbone": True},
        {"architecture": "densenet3d", "volume_size": [32, 32, 32], "spacing": [8, 6, 6], "test_set": "random"},
    ],
    ids=[
        "resnet50-focal-mean-cutmix",
        "bce-se-max",
        "asl-multiscale-mixup",
        "efficientnet-3-labels",
        "cbam-unfrozen",
        "resnet3d",
        "densenet3d",
    ],
)
def test_every_choice_trains(ct_configs, ct_settings, tmp_path, changed):
    folder = train(ct_configs, tmp_path, **{**ct_settings, "max_epochs": 2, "max_val_batches": 1, **changed})
    history = metrics_of(folder)["history"]
    assert [entry["epoch"] for entry in history] == [1, 2]
    assert all(math.isfinite(entry["train_loss"]) for entry in history)
    trained_parameters = [entry["trained_parameters"] for entry in history]
    assert (trained_parameters[0] < trained_parameters[1]) == ("unfreeze_epoch" in changed)


@pytest.mark.parametrize(
    ("loss", "weighted", "family", "name"),
    [
        ("focal", False, "focal", "constant_alpha_0.85_gamma_4"),
        ("focal", True, "focal", "constant_alpha_0.85_gamma_4_weighted"),
        ("bce", False, "cross_entropy", "plain"),
        ("bce", True, "cross_entropy", "pos_weight"),
        ("asl", True, "asymmetric", "asl_gn6_gp1_clip0.05_nograd1"),
    ],
    ids=["focal", "focal-weighted", "bce", "bce-weighted", "asl"],
)
def test_the_config_s_losses_equal_the_reference(ct_configs, loss, weighted, family, name):
    golden = json.loads((GOLDEN / "multi_label_losses.json").read_text())
    parser = ConfigParser()
    parser.read_config(f=str(ct_configs / "train.json"))
    weights = torch.tensor(golden["class_weight"], dtype=torch.float64) if weighted else None
    parser.update({"loss": loss, "class_weight": weights})
    logits, targets = (torch.tensor(golden[key], dtype=torch.float32) for key in ("logits", "targets"))
    value = parser.get_parsed_content("train#loss_function")(logits, targets)
    expected = golden[family][name]
    assert float(value) == pytest.approx(expected["mean"] if isinstance(expected, dict) else expected, rel=1e-5)


@pytest.mark.slow
def test_columns_in_another_order_give_the_same_labels(ct_configs, ct_settings, ct_data, tmp_path):
    folder = ct_data / "dataset" / "multi_abnormality_labels"
    moved = {}
    for split in ("train", "valid"):
        rows = rows_of(folder / f"{split}_predicted_labels.csv")
        moved[f"{split}_labels"] = str(tmp_path / f"{split}.csv")
        with open(tmp_path / f"{split}.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0])[::-1])
            writer.writeheader()
            writer.writerows(rows)
    run_folders = [
        train(ct_configs, tmp_path / name, **ct_settings, **extra)
        for name, extra in zip("ab", ({}, moved), strict=True)
    ]
    for section in ("train", "val", "test"):
        first, second = (rows_of(run_folder / "splits" / f"fold_1_{section}.csv") for run_folder in run_folders)
        assert first == second


@pytest.mark.slow
def test_torchvision_s_weights_are_loaded_and_stay_while_they_are_frozen(ct_configs, ct_settings, tmp_path):
    reference = SliceClassifier(in_channels=3).backbone.state_dict()
    torch.save({**reference, "fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}, tmp_path / "r50.pth")
    settings = {**ct_settings, "backbone": "resnet50", "pretrained_path": str(tmp_path / "r50.pth")}
    folder = train(ct_configs, tmp_path / "runs", **settings, in_channels=3, freeze_backbone=True)
    model = torch.load(folder / "checkpoints" / "last.pt", weights_only=True)["model"]
    for key, value in reference.items():
        assert torch.equal(model[f"slice_network.backbone.{key}"], value), key


@pytest.mark.parametrize(
    ("changed", "kind", "text"),
    [
        ({"architecture": "slice"}, ConfigError, "extract-slices"),
        ({"architecture": "resnet3d", "in_channels": 3}, ConfigError, "--in_channels 3: must be 1"),
        ({"keep_best": 0}, ConfigError, "--keep_best 0"),
        ({"classes": ["Nodule"]}, ConfigError, "Nodule"),
    ],
    ids=["slices-missing", "channels", "keep-best", "class"],
)
def test_a_wrong_setting_is_told_in_one_sentence(ct_configs, ct_settings, tmp_path, changed, kind, text):
    with pytest.raises(RuntimeError) as caught:
        train(ct_configs, tmp_path, **{**ct_settings, **changed})
    error = user_error(caught.value)
    assert isinstance(error, kind)
    assert text in str(error)


@pytest.mark.slow
def test_a_run_from_before_best_epochs_were_ranked_can_be_resumed(ct_configs, ct_settings, tmp_path):
    folder = train(ct_configs, tmp_path, **ct_settings)
    last = torch.load(folder / "checkpoints" / "last.pt", weights_only=True)
    del last["handlers"]["top_epochs"]
    torch.save(last, folder / "checkpoints" / "last.pt")
    train(ct_configs, tmp_path, **{**ct_settings, "resume": str(folder), "max_epochs": 2})
    assert [entry["epoch"] for entry in metrics_of(folder)["history"]] == [1, 2]


def test_prepare_fills_the_cache_that_training_reads(ct_data, ct_configs, ct_settings, tmp_path):
    words = ["prepare", "ct_rate_multilabel", "--dataset_dir", ct_data, "--output", tmp_path / "cache", "--workers", 1]
    words += ["--num_slices", 3, "--slice_size", 32]
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
    assert f"{len(files)} cases prepared" in done.output
    train(ct_configs, tmp_path / "runs", **{**ct_settings, "cache_dir": str(tmp_path / "cache")})
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()} == files


def test_cross_validation_refuses_several_labels_before_it_trains(ct_configs, ct_settings, tmp_path):
    with pytest.raises(ConfigError, match="ct_rate_multilabel is multi-label"):
        CrossValidation(str(ct_configs / "train.json"), 2, {**ct_settings, "output_dir": str(tmp_path)})
    assert list(tmp_path.iterdir()) == []
