"""`surface_unet` end to end on a small, made-up volume with a narrow network and few steps."""

import json
import math
import re
import shutil

import mlflow
import pytest
import torch
import zarr
from bundle_helpers import rows_of, user_error
from monai.bundle import ConfigWorkflow, run
from typer.testing import CliRunner

from monai_ext.cli.app import app
from monai_ext.errors import ConfigError, DataError, WeightsError
from monai_ext.networks import SurfaceUNet


def only_run(output):
    (folder,) = (output / "fold_1").glob("run_*")
    return folder


def read(path):
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def trained(surface_configs, surface_settings, tmp_path_factory):
    """A finished run with everything switched on."""
    output = tmp_path_factory.mktemp("trained") / "runs" / "surface"
    settings = {**surface_settings, "max_epochs": 2, "plot_every": 1, "previews": 2}
    del settings["tracking_uri"]
    run(config_file=str(surface_configs / "train.json"), output_dir=str(output), **settings)
    return only_run(output)


def test_the_run_folder_is_laid_out_as_documented(trained):
    files = {str(path.relative_to(trained)) for path in trained.rglob("*") if path.is_file()}
    expected = {
        "run.json",
        "report.html",
        "config/config.json",
        "config/metadata.json",
        "metrics/metrics.json",
        *(f"checkpoints/{name}.pt" for name in ("best", "last", "last_previous")),
        "predictions/val_patches.csv",
        *(f"previews/epoch_000{epoch}.png" for epoch in (1, 2)),
        *(f"plots/{name}.png" for name in ("loss_curves", "loss_terms", "angle_curves", "learning_curves")),
    }
    assert expected <= files
    assert [name for name in files if "partial" in name] == []


def test_each_target_has_its_losses_and_its_metric(trained):
    metrics = read(trained / "metrics" / "metrics.json")
    for entry in metrics["history"]:
        for part in ("train", "val"):
            terms = [entry[f"{part}_loss_{target}"] for target in ("sheet", "normals")]
            assert sum(terms) == pytest.approx(entry[f"{part}_loss"], rel=1e-5)
        assert 0 <= entry["sheet_dice"] <= 1
        assert 0 <= entry["normals_angle"] <= 180
    best = metrics["history"][metrics["best_epoch"] - 1]
    assert (
        metrics["metrics"]["val_loss"]
        == pytest.approx(best["val_loss"])
        == min(entry["val_loss"] for entry in metrics["history"])
    )
    assert metrics["per_target"]["normals"]["angle"] == pytest.approx(best["normals_angle"])


def test_each_validation_patch_has_a_row_and_the_loss_is_their_mean(trained):
    rows = rows_of(trained / "predictions" / "val_patches.csv")
    metrics = read(trained / "metrics" / "metrics.json")
    assert len(rows) == 4
    assert sum(float(row["loss"]) for row in rows) / 4 == pytest.approx(metrics["metrics"]["val_loss"])


def test_pictures_are_in_tensorboard_and_mlflow_and_numbers_too(trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(trained / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    assert [event.step for event in events.Images("preview")] == [1, 2]
    assert "val_loss_normals" in events.Tags()["scalars"]
    client = mlflow.MlflowClient(f"sqlite:///{trained.parents[2]}/mlflow.db")
    identifier = read(trained / "run.json")["mlflow_run_id"]
    pictures = [file.path for file in client.list_artifacts(identifier, "images") if file.path.endswith(".png")]
    assert {re.search(r"step.(\d+)", path)[1] for path in pictures} == {"1", "2"}
    assert len(client.get_metric_history(identifier, "normals_angle")) == 2


def test_the_report_shows_targets_previews_and_patches(trained):
    page = (trained / "report.html").read_text()
    for words in ("By target", "Previews", "patches with the largest loss", "Mean angle to the true vectors"):
        assert words in page
    assert "Mistakes" not in page
    assert "Nothing was skipped." in page


def test_the_metadata_are_true_for_the_run_and_settings_are_in_every_checkpoint(trained):
    metadata = read(trained / "config" / "metadata.json")
    outputs = metadata["network_data_format"]["outputs"]
    assert {name: (each["num_channels"], each["spatial_shape"]) for name, each in outputs.items()} == {
        "sheet": (1, [16, 32, 32]),
        "normals": (3, [16, 32, 32]),
    }
    for name in ("best", "last"):
        settings = torch.load(trained / "checkpoints" / f"{name}.pt", weights_only=True)["settings"]
        assert settings["f_maps"] == [8, 16]
        assert settings["targets"]["normals"] == {"channels": 3, "activation": "none"}
        assert settings == metadata["settings"]


def test_evaluation_of_the_validation_side_gives_the_training_s_numbers(
    trained, surface_configs, surface_settings, tmp_path
):
    files = [str(surface_configs / name) for name in ("train.json", "evaluate.json")]
    checkpoint = str(trained / "checkpoints" / "best.pt")
    run(config_file=files, checkpoint=checkpoint, output_dir=str(tmp_path), **surface_settings)
    folder = only_run(tmp_path / "evaluation")
    found, expected = (read(each / "metrics" / "metrics.json")["metrics"] for each in (folder, trained))
    for name in ("val_loss", "val_loss_normals", "sheet_dice", "normals_angle"):
        assert found[name] == pytest.approx(expected[name], rel=1e-5), name
    assert (folder / "previews" / "epoch_0000.png").exists()
    assert (folder / "report.html").exists()


@pytest.mark.parametrize(
    "changed",
    [
        {"normalization": "ct", "optimizer": "sgd", "scheduler": "polynomial", "accumulate": 2, "lr": 1e-3},
        {"deep_supervision": True, "checkpointing": True, "f_maps": [8, 8, 16], "scheduler": "constant"},
        {"label_dilation": 1, "ignore_label": 2, "targets#sheet#loss": "bce_dice_cldice", "num_workers": 2},
        {"targets#normals#loss_only_on_label": "sheet", "level": 0, "cover_tail": True, "test_fraction": 0.2},
    ],
    ids=["ct-sgd-polynomial", "deep-checkpointing", "dilated-ignore-cldice", "only-on-sheet-tail-test"],
)
def test_every_choice_trains(surface_configs, surface_settings, tmp_path, changed):
    settings = {**surface_settings, "index_dir": str(tmp_path / "index"), **changed}
    run(config_file=str(surface_configs / "train.json"), output_dir=str(tmp_path), **settings)
    history = read(only_run(tmp_path) / "metrics" / "metrics.json")["history"]
    assert math.isfinite(history[0]["train_loss"])
    assert math.isfinite(history[0]["val_loss"])


def test_the_numbers_of_the_ct_scheme_go_with_the_checkpoint_into_an_evaluation(
    surface_configs, surface_settings, tmp_path
):
    settings = {**surface_settings, "normalization": "ct", "output_dir": str(tmp_path)}
    run(config_file=str(surface_configs / "train.json"), **settings)
    checkpoint = only_run(tmp_path) / "checkpoints" / "best.pt"
    saved = torch.load(checkpoint, weights_only=True)["settings"]["intensity"]
    assert 0 <= saved["lower"] < saved["mean"] < saved["upper"] <= 255
    files = [str(surface_configs / name) for name in ("train.json", "evaluate.json")]
    run(config_file=files, checkpoint=str(checkpoint), **settings)
    with pytest.raises(RuntimeError) as caught:
        run(config_file=files, checkpoint=str(checkpoint), **{**settings, "normalization": "zscore"})
    assert "normalization: checkpoint 'ct', configured 'zscore'" in str(user_error(caught.value))


def test_volumes_are_named_in_the_config_and_another_target_is_one_more_path(
    surface_configs, surface_settings, surface_data, tmp_path
):
    scroll = surface_data / "scroll_1"
    volumes = [
        {
            "input": str(scroll / "input.zarr"),
            "sheet": str(scroll / "sheet.zarr"),
            "ink": str(scroll / "sheet.zarr"),
            "ref_label": "ink",
        }
    ]
    targets = {"sheet": {"channels": 1, "activation": "sigmoid"}, "ink": {"channels": 1, "activation": "sigmoid"}}
    settings = {**surface_settings, "volumes": volumes, "targets": targets, "index_dir": str(tmp_path / "index")}
    run(config_file=str(surface_configs / "train.json"), output_dir=str(tmp_path), **settings)
    entry = read(only_run(tmp_path) / "metrics" / "metrics.json")["history"][0]
    assert {"train_loss_ink", "val_loss_ink", "ink_dice"} <= set(entry)


def test_training_starts_from_the_reference_s_weights_and_fresh_targets_from_random_ones(
    surface_configs, surface_settings, tmp_path
):
    torch.manual_seed(5)
    reference = SurfaceUNet(targets={"sheet": {"channels": 1}}, f_maps=(8, 16))
    state = {f"_orig_mod.{key}": value for key, value in reference.state_dict().items()}
    state["_orig_mod.final_conv.weight"] = torch.zeros(1, 8, 1, 1, 1)
    torch.save({"model": state}, tmp_path / "reference.pth")
    settings = {**surface_settings, "pretrained_path": str(tmp_path / "reference.pth"), "lr": 0.0}
    with pytest.raises(RuntimeError) as caught:
        run(config_file=str(surface_configs / "train.json"), output_dir=str(tmp_path / "not"), **settings)
    assert isinstance(user_error(caught.value), WeightsError)
    assert "task_decoders.normals" in str(user_error(caught.value))
    settings["fresh_targets"] = ["normals"]
    run(config_file=str(surface_configs / "train.json"), output_dir=str(tmp_path), **settings)
    model = torch.load(only_run(tmp_path) / "checkpoints" / "last.pt", weights_only=True)["model"]
    for key, value in reference.state_dict().items():
        # A rate of 0 leaves but the decay of the weights, which AdamW multiplies by the rate.
        assert torch.equal(model[key], value), key


def test_a_stale_list_of_patches_is_made_anew_and_that_is_said(
    surface_configs, surface_settings, surface_data, tmp_path, capfd
):
    data = tmp_path / "data"
    shutil.copytree(surface_data, data)
    settings = {**surface_settings, "dataset_dir": str(data), "index_dir": str(tmp_path / "index")}
    run(config_file=str(surface_configs / "train.json"), output_dir=str(tmp_path / "first"), **settings)
    before = read(tmp_path / "index" / "patches.json")
    label = zarr.open_array(str(data / "scroll_1" / "sheet.zarr"))
    label[:64] = 0
    capfd.readouterr()
    run(config_file=str(surface_configs / "train.json"), output_dir=str(tmp_path / "second"), **settings)
    after = read(tmp_path / "index" / "patches.json")
    assert 0 < len(after) < len(before)
    assert "labels changed; the patches are found again" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("settings", "damage", "kind", "message"),
    [
        ({"patch_size": [64, 96, 96]}, "one region", DataError, r"sheet\.zarr: the label's bounding box.* is smaller"),
        (
            {"patch_size": [64, 96, 96]},
            None,
            DataError,
            r"sheet\.zarr: no patch of \(64, 96, 96\) .*lower min_bbox_percent",
        ),
        ({"patch_size": [64, 512, 96]}, None, DataError, "smaller than patch_size"),
        ({}, "empty", DataError, r"sheet\.zarr: the label is empty"),
        ({"targets": {"ink": {"channels": 1, "activation": "sigmoid"}}}, None, (DataError, ConfigError), "ink"),
        ({"f_maps": [8, 8, 8, 8, 8, 8]}, None, (ConfigError, ValueError), "need at least 32 voxels"),
        ({"tr_val_split": 1.5}, None, ConfigError, "tr_val_split"),
        ({"targets#sheet#loss": "bce_dise"}, None, ConfigError, "'bce_dice'"),
        ({"normalization": "minmax"}, None, ConfigError, "zscore.*got 'minmax'"),
    ],
    ids=[
        "label-small",
        "labels-sparse",
        "volume-small",
        "empty",
        "no-target",
        "too-deep",
        "split",
        "loss",
        "normalization",
    ],
)
def test_what_cannot_work_ends_in_one_sentence_before_training(
    surface_configs, surface_settings, surface_data, tmp_path, settings, damage, kind, message
):
    data = surface_data
    if damage is not None:
        data = tmp_path / "data"
        shutil.copytree(surface_data, data)
        label = zarr.open_array(str(data / "scroll_1" / "sheet.zarr"))
        if damage == "empty":
            label[:] = 0
        else:
            label[64:] = 0
            label[:, 128:] = 0
            label[:, :, 128:] = 0
    given = {**surface_settings, "dataset_dir": str(data), "index_dir": str(tmp_path / "index"), **settings}
    with pytest.raises((RuntimeError, ValueError)) as caught:
        run(config_file=str(surface_configs / "train.json"), output_dir=str(tmp_path / "runs"), **given)
    error = user_error(caught.value)
    assert isinstance(error, kind)
    assert re.search(message, str(error))


def test_without_data_one_sentence_says_how_to_get_them(surface_configs, tmp_path):
    with pytest.raises(RuntimeError) as caught:
        run(config_file=str(surface_configs / "train.json"), dataset_dir=str(tmp_path / "absent"))
    error = user_error(caught.value)
    assert isinstance(error, DataError)
    assert "demo-data surface_unet" in str(error)


@pytest.mark.parametrize("names", [["train.json"], ["train.json", "evaluate.json"]], ids=["train", "evaluate"])
def test_monai_finds_all_its_properties_without_weights(surface_configs, surface_settings, names, tmp_path):
    workflow = ConfigWorkflow(
        config_file=[str(surface_configs / name) for name in names],
        workflow_type="train",
        logging_file=False,
        output_dir=str(tmp_path / "runs"),
        **surface_settings,
    )
    workflow.initialize()
    assert workflow.check_properties() == []
    assert list(tmp_path.rglob("run_*")) == [], "looking at a bundle must not start a run"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["cross-validate", "--config_file", "CONFIG"], "has no classes"),
        (["prepare", "surface_unet", "--dataset_dir", "DATA", "--output", "OUT"], "there is nothing to prepare"),
    ],
    ids=["cross-validate", "prepare"],
)
def test_commands_that_do_not_apply_say_so(surface_configs, surface_data, tmp_path, command, message):
    places = {"CONFIG": surface_configs / "train.json", "DATA": surface_data, "OUT": tmp_path}
    done = CliRunner().invoke(app, [str(places.get(word, word)) for word in command])
    assert isinstance(done.exception, ConfigError)
    assert message in str(done.exception)
