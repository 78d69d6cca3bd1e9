"""Options of `surface_unet`: every choice trains, and what cannot work is refused in one sentence."""

import json
import math
import re
import shutil

import pytest
import torch
import zarr
from bundle_helpers import only_run, user_error
from monai.bundle import run
from typer.testing import CliRunner

from monai_ext.cli.app import app
from monai_ext.errors import ConfigError, DataError, WeightsError
from monai_ext.networks import SurfaceUNet

pytestmark = pytest.mark.slow


def read(path):
    return json.loads(path.read_text())


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
    settings = {**surface_settings, "pretrained_path": str(tmp_path / "reference.pth"), "lr": 1e-30}
    with pytest.raises(RuntimeError) as caught:
        run(config_file=str(surface_configs / "train.json"), output_dir=str(tmp_path / "not"), **settings)
    assert isinstance(user_error(caught.value), WeightsError)
    assert "task_decoders.normals" in str(user_error(caught.value))
    settings["fresh_targets"] = ["normals"]
    run(config_file=str(surface_configs / "train.json"), output_dir=str(tmp_path), **settings)
    model = torch.load(only_run(tmp_path) / "checkpoints" / "last.pt", weights_only=True)["model"]
    for key, value in reference.state_dict().items():
        # Such a rate moves nothing but what is 0.
        assert torch.allclose(model[key], value, rtol=0, atol=1e-20), key


# As it stands in the original's tasks/sheet_normals.json.
BLOCK_OF_THE_ORIGINAL = {
    "sheet": {
        "channels": 1,
        "activation": "none",
        "weight": 1,
        "loss_fn": "BCEDiceLoss",
        "loss_kwargs": {"alpha": 0.5, "beta": 0.5},
    },
    "normals": {"channels": 3, "activation": "none", "weight": 1, "loss_fn": "MaskedCosineLoss"},
}


def test_checkpoint_and_targets_of_the_original_train_on_and_predict_a_mask(
    surface_configs, surface_settings, surface_data, tmp_path
):
    torch.manual_seed(5)
    original = SurfaceUNet(targets=BLOCK_OF_THE_ORIGINAL, f_maps=(8, 16))
    state = {f"_orig_mod.{key}": value for key, value in original.state_dict().items()}
    state["_orig_mod.decoders.0.x.weight"] = state["_orig_mod.final_conv.weight"] = torch.zeros(1, 8, 1, 1, 1)
    file = tmp_path / "SheetNorm_388.pth"
    torch.save({"model": state, "optimizer": {}, "scheduler": {}, "epoch": 388}, file)
    settings = {**surface_settings, "pretrained_path": str(file), "targets": BLOCK_OF_THE_ORIGINAL, "lr": 1e-30}
    run(config_file=str(surface_configs / "train.json"), output_dir=str(tmp_path / "run"), **settings)
    trained = only_run(tmp_path / "run")
    assert 0 <= read(trained / "metrics" / "metrics.json")["history"][0]["sheet_dice"] <= 1

    windows = {"patch_size": [16, 32, 32], "chunk_size": 32, "bbox": [[0, 32], [0, 64], [64, 128]]}
    given = {**windows, "inputs": str(surface_data)}
    shipped = {"config_file": str(surface_configs / "inference.json"), "checkpoint": str(file)}
    for name, call in (("own", {"config_file": str(trained / "config" / "inference.json")}), ("theirs", shipped)):
        run(**call, output_dir=str(tmp_path / name), **given)
    sheets = [zarr.open_array(tmp_path / name / "scroll_1" / "sheet.zarr" / "0")[...] for name in ("own", "theirs")]
    assert sheets[0].dtype == "uint8"
    assert sheets[0].any()
    # such a rate moves nothing but what is 0
    assert abs(sheets[0].astype(int) - sheets[1]).max() <= 1
    run(**shipped, output_dir=str(tmp_path / "raw"), activations={"sheet": "none"}, **given)
    raw = zarr.open_array(tmp_path / "raw" / "scroll_1" / "sheet.zarr" / "0")[:32, :64, 64:128]
    assert raw.dtype == "float32"
    scores = torch.sigmoid(torch.from_numpy(raw)).numpy() * 255
    assert abs(scores - sheets[1][:32, :64, 64:128]).max() < 1


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
        ({"normalization": "minmax"}, None, ConfigError, "--normalization minmax: must be zscore or ct"),
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
