"""Options of `spinal_cord_cascade`: classifiers with one backbone, a cord that says where it is visible."""

import math

import pytest
import torch
from bundle_helpers import rows_of, user_error
from monai.bundle import ConfigParser
from monai.bundle.scripts import ckpt_export
from spine_runs import checkpoint_of, metrics_of, parsed, train

from monai_ext import spine
from monai_ext.errors import DataError
from monai_ext.networks import CordUNet, load_model, network_settings
from monai_ext.spine.split_heads import split_heads

pytestmark = pytest.mark.slow

SHARING = ("anatomy", "location_view", "sequence")


@pytest.fixture(scope="module")
def shared(spine_configs, spine_settings, tmp_path_factory):
    """Run folder of the three classifiers as one network, two steps."""
    settings = {**spine_settings, "max_train_batches": 2, "max_val_batches": None}
    return train(spine_configs, "classifiers", tmp_path_factory.mktemp("shared"), **settings)


def test_the_classes_of_three_stages_are_trained_together(shared, spine_data):
    names = [f"{stage}/{name}" for stage in SHARING for name in spine.class_names(spine_data / stage)]
    checkpoint = checkpoint_of(shared)
    assert (checkpoint["settings"]["stage"], checkpoint["settings"]["classes"]) == ("classifiers", names)
    assert checkpoint["model"]["head.4.weight"].shape[0] == len(names)
    cases = {row["slice"].partition("/")[0] for row in rows_of(shared / "splits" / "fold_1_train.csv")}
    assert cases == set(SHARING)
    assert math.isfinite(metrics_of(shared)["history"][0]["train_loss"])


def test_the_mean_of_the_heads_decides_on_the_best_epoch(shared):
    (entry,) = metrics_of(shared)["history"]
    mean = sum(entry[f"f1_{stage}"] for stage in SHARING) / 3
    assert entry["f1"] == pytest.approx(mean)
    of_anatomy = [found["f1"] for name, found in metrics_of(shared)["per_class"].items() if name[:8] == "anatomy/"]
    assert len(of_anatomy) == 3
    assert entry["f1_anatomy"] == pytest.approx(sum(of_anatomy) / 3)


def test_no_slice_is_taken_for_a_class_of_another_stage(shared):
    rows = rows_of(shared / "predictions" / "val_predictions.csv")
    assert {row["label"].partition("/")[0] for row in rows} == set(SHARING)
    assert all(row["prediction"].partition("/")[0] == row["label"].partition("/")[0] for row in rows)


def test_no_patient_of_any_stage_is_in_two_parts(spine_configs, spine_settings):
    items = parsed(spine_configs, spine_settings, "classifiers").get_parsed_content("items")
    patients = [{item["patient"] for item in items[part]} for part in ("train", "val")]
    assert all(patients)
    assert not patients[0] & patients[1]


def test_each_head_becomes_a_network_that_inference_takes_as_it_is(shared, spine_configs, spine_data, tmp_path):
    split_heads(shared, tmp_path)
    whole = parsed(spine_configs, {"dataset_dir": str(spine_data)}, "classifiers").get_parsed_content("network_def")
    whole.load_state_dict(checkpoint_of(shared)["model"])
    slices = torch.rand((2, 1, 32, 32), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = whole.eval()(slices)
        start = 0
        for stage in SHARING:
            file, names = tmp_path / stage / "model.pt", spine.class_names(spine_data / stage)
            config = ConfigParser()
            config.read_config(f=str(spine_configs / "inference.json"))
            config.update({"models_dir": str(tmp_path), "bundle_root": str(spine_configs.parent), "stage": stage})
            settings = config.get_parsed_content("network_settings")
            network = load_model(config.get_parsed_content("network_def"), file, settings)
            assert settings == network_settings(file)
            assert spine.load_class_map(file.with_name("class_map.json")) == settings["classes"] == names
            torch.testing.assert_close(network(slices), expected[:, start : start + len(names)])
            start += len(names)
    assert start == expected.shape[1]


def test_evaluation_repeats_the_validation_and_gives_intervals(shared, spine_configs, spine_settings):
    settings = {**spine_settings, "max_val_batches": None}
    found = metrics_of(train(spine_configs, "classifiers", shared.parents[1], ["evaluate.json"], **settings))
    expected = metrics_of(shared)["metrics"]
    for name in ("val_loss", "f1", *(f"f1_{stage}" for stage in SHARING)):
        assert found["metrics"][name] == pytest.approx(expected[name], rel=1e-5), name
    assert set(found["interval_methods"]) == {f"f1_{stage}" for stage in SHARING}


def test_a_stage_without_folder_is_named(spine_configs, spine_settings, spine_data, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for stage in SHARING[:2]:
        (data / stage).symlink_to(spine_data / stage)
    with pytest.raises((RuntimeError, DataError)) as caught:
        train(spine_configs, "classifiers", tmp_path / "runs", **{**spine_settings, "dataset_dir": str(data)})
    error = user_error(caught.value)
    assert isinstance(error, DataError)
    assert "sequence: is not a folder" in str(error)


@pytest.fixture(scope="module")
def visible(spine_configs, spine_settings, tmp_path_factory):
    """Run folder of the cord's network with a visible head."""
    output = tmp_path_factory.mktemp("visible")
    return train(
        spine_configs, "cord", output, **{**spine_settings, "architecture": "cord_unet_visible", "previews": 1}
    )


def test_a_cord_network_learns_both_the_mask_and_whether_it_is_visible(visible, spine_configs, spine_settings):
    checkpoint = checkpoint_of(visible)
    assert checkpoint["settings"]["architecture"] == "cord_unet_visible"
    config = parsed(spine_configs, spine_settings, "cord", architecture="cord_unet_visible", seed=1)
    network, loss = config.get_parsed_content("network_def"), config.get_parsed_content("train#loss_function")
    network.load_state_dict(checkpoint["model"])
    batch = next(iter(config.get_parsed_content("validate#dataloader")))
    loss(network(batch["image"]), batch["label"]).backward()
    assert network.visible_head.weight.grad.abs().sum() > 0
    assert network.output_layer.weight.grad.abs().sum() > 0


def test_its_validation_counts_both_and_draws_the_mask(visible, spine_configs, spine_settings):
    metrics = metrics_of(visible)["metrics"]
    assert math.isfinite(metrics["val_loss"])
    assert (visible / "previews" / "epoch_0001.png").exists()
    settings = {**spine_settings, "architecture": "cord_unet_visible"}
    found = metrics_of(train(spine_configs, "cord", visible.parents[1], ["evaluate.json"], **settings))["metrics"]
    assert found["val_loss"] == pytest.approx(metrics["val_loss"], rel=1e-5)


def test_the_next_stage_begins_with_its_mask(visible, spine_configs, spine_settings, tmp_path):
    settings = {**spine_settings, "pretrained_path": str(visible / "checkpoints" / "best.pt"), "lr": 1e-30}
    folder = train(spine_configs, "lesion_synthetic", tmp_path, **settings)
    before, after = checkpoint_of(visible)["model"], checkpoint_of(folder)["model"]
    assert set(before) - set(after) == {"visible_head.weight", "visible_head.bias"}
    assert all(torch.equal(after[key], before[key]) for key in after if "_bn_" not in key)


def test_its_export_gives_mask_and_answer(visible, spine_configs, tmp_path):
    file, target = visible / "checkpoints" / "best.pt", tmp_path / "model.ts"
    ckpt_export(
        net_id="network_def",
        filepath=str(target),
        ckpt_file=str(file),
        config_file=str(spine_configs / "inference.json"),
        meta_file=str(visible / "config" / "metadata.json"),
        key_in_ckpt="model",
        stage="cord",
        cord_checkpoint=str(file),
    )
    assert network_settings(target) == network_settings(file)
    network = CordUNet(features=4, visible_head=True)
    network.load_state_dict(checkpoint_of(visible)["model"])
    slices = torch.rand((2, 1, 32, 32), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected, found = network.eval()(slices), load_model(torch.nn.Identity(), target)(slices)
    assert set(found) == {"cord", "visible"}
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)
