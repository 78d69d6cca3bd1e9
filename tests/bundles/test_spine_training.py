"""Trainings of `spinal_cord_cascade` on small, made-up slices with few steps."""

import ast
import json
import math
import re
import shlex

import nibabel as nib
import pytest
import torch
from bundle_helpers import rows_of, user_error
from cascade_files import spine as phantom
from monai.bundle import ConfigWorkflow, run
from spine_runs import checkpoint_of, files_of, metrics_of, parsed, train

from monai_ext import spine
from monai_ext.errors import ConfigError, DataError
from monai_ext.networks import SliceClassifier
from monai_ext.settings import read_bundle_config

FOLDERS = ("foundation", "anatomy", "location_view", "sequence")
CLASSIFIERS = (*FOLDERS, "cord_visible")
MASKS = ("cord", "lesion_synthetic", "lesion")


@pytest.fixture(scope="module")
def trained(spine_configs, spine_settings, tmp_path_factory):
    """Run folder of any stage, trained when it is asked for."""
    root, runs = tmp_path_factory.mktemp("trained"), {}

    def of(stage):
        if stage not in runs:
            runs[stage] = train(spine_configs, stage, root / stage, **spine_settings)
        return runs[stage]

    return of


@pytest.mark.slow
@pytest.mark.parametrize("stage", [*CLASSIFIERS, *MASKS])
def test_every_stage_trains_and_its_checkpoint_says_what_it_is(trained, spine_data, stage):
    folder = trained(stage)
    settings = checkpoint_of(folder)["settings"]
    task, network = ("segmentation", "cord_unet") if stage in MASKS else ("classification", "resnet18")
    names = [] if stage in MASKS else ["no_cord", "cord"]
    if stage in FOLDERS:
        names = spine.class_names(spine_data / stage)
    expected = {
        "stage": stage,
        "task": task,
        "architecture": network,
        "features": 4,
        "image_size": 32,
        "classes": names,
    }
    assert settings == expected
    class_map = folder / "checkpoints" / "class_map.json"
    assert (spine.load_class_map(class_map) if class_map.exists() else []) == names
    (entry,) = metrics_of(folder)["history"]
    assert math.isfinite(entry["train_loss"])
    output = json.loads((folder / "config" / "metadata.json").read_text())["network_data_format"]["outputs"]["pred"]
    assert output["format"] == task
    assert (output["num_channels"], output["spatial_shape"]) == ((len(names), [1]) if names else (1, [32, 32]))


@pytest.mark.slow
def test_the_printed_command_runs_after_a_single_stage(spine_configs, spine_settings, tmp_path, capfd):
    folder = train(spine_configs, "cord", tmp_path / "cord", **spine_settings)
    said = "".join(capfd.readouterr()) + next((folder / "logs").glob("*.log")).read_text()
    command = re.search(r"to evaluate with the best checkpoint: python -m monai.bundle run (.*)", said)[1]
    _, files, _, checkpoint = shlex.split(command)
    run(config_file=ast.literal_eval(files), checkpoint=checkpoint)
    (evaluated,) = (tmp_path / "cord").glob("evaluation/fold_1/run_*")
    assert metrics_of(evaluated)["metrics"].keys() >= {"dice"}


@pytest.mark.slow
def test_volumes_by_the_names_of_bids_train_a_stage(spine_configs, spine_settings, tmp_path):
    image, lesion = phantom()
    for number in range(1, 6):
        where = f"sub-{number:02d}/anat/sub-{number:02d}_T2w"
        for name, voxels in ((f"{where}.nii.gz", image.voxels), (f"derivatives/labels/{where}_lesion.nii.gz", lesion)):
            (tmp_path / "bids" / name).parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(voxels.astype("int16"), image.affine), tmp_path / "bids" / name)
    settings = {**spine_settings, "dataset_dir": str(tmp_path / "bids"), "previews": 0}
    folder = train(spine_configs, "lesion", tmp_path / "runs", **settings)
    (entry,) = metrics_of(folder)["history"]
    assert math.isfinite(entry["train_loss"])
    assert not list(folder.glob("previews/*.png"))


@pytest.mark.parametrize("stage", [*CLASSIFIERS, *MASKS])
def test_no_patient_is_in_two_parts(spine_configs, spine_settings, stage):
    items = parsed(spine_configs, spine_settings, stage).get_parsed_content("items")
    patients = [{item["patient"] for item in items[part]} for part in ("train", "val")]
    assert all(patients)
    assert patients[0] | patients[1] == {f"p{number:02d}" for number in range(1, 6)}
    assert not patients[0] & patients[1]


@pytest.mark.slow
def test_a_stage_begins_with_the_features_of_the_foundation_and_keeps_them_while_frozen(
    trained, spine_configs, spine_settings, tmp_path, capfd
):
    source = trained("foundation") / "checkpoints" / "best.pt"
    settings = {**spine_settings, "pretrained_path": str(source), "freeze_backbone": True}
    folder = train(spine_configs, "anatomy", tmp_path, **settings)
    before, after = checkpoint_of(trained("foundation"))["model"], checkpoint_of(folder)["model"]
    backbone = [key for key in before if key.startswith("backbone.")]
    assert all(torch.equal(before[key], after[key]) for key in backbone)
    assert after["head.4.weight"].shape[0] == 3
    log = next((folder / "logs").glob("*.log")).read_text() + "".join(capfd.readouterr())
    assert "starting fresh: head.4.weight, head.4.bias" in log


@pytest.mark.slow
def test_the_flexible_unet_takes_the_foundation_s_encoder(trained, spine_configs, spine_settings, tmp_path):
    source = trained("foundation") / "checkpoints" / "best.pt"
    settings = {
        **spine_settings,
        "pretrained_path": str(source),
        "architecture": "flexible_unet",
        "freeze_backbone": True,
    }
    folder = train(spine_configs, "cord", tmp_path, **settings)
    before, after = checkpoint_of(trained("foundation"))["model"], checkpoint_of(folder)["model"]
    encoder = [key for key in after if key.startswith("encoder.")]
    assert len(encoder) > 100
    assert all(torch.equal(after[key], before[key.replace("encoder.", "backbone.")]) for key in encoder)


@pytest.mark.slow
def test_a_segmentation_goes_on_from_another_one(trained, spine_configs, spine_settings, tmp_path):
    source = trained("lesion_synthetic") / "checkpoints" / "best.pt"
    folder = train(spine_configs, "lesion", tmp_path, **{**spine_settings, "pretrained_path": str(source), "lr": 1e-30})
    before, after = checkpoint_of(trained("lesion_synthetic"))["model"], checkpoint_of(folder)["model"]
    assert all(torch.equal(after[key], before[key]) for key in before if "_bn_" not in key)


def masks_of(parser, section):
    """Of each item, the pixels of the lesions in the file and in what the network learns from."""
    dataset = parser.get_parsed_content(f"{section}#dataset")
    prepared = [*parser.get_parsed_content("loading"), *parser.get_parsed_content("preparation")]
    for item, sample in zip(dataset.data, dataset, strict=True):
        plain = dict(item)
        for transform in prepared:
            plain = transform(plain)
        yield plain.get("mask", torch.zeros(1)).sum(), sample["label"].sum()


def test_synthetic_lesions_come_in_training_and_not_in_validation(spine_configs, spine_settings):
    still = dict.fromkeys(("flip_prob", "affine_prob", "crop_prob", "warp_prob"), 0.0)
    parser = parsed(spine_configs, spine_settings, "lesion", synthetic_prob=1.0, **still)
    trained_on, validated = (list(masks_of(parser, section)) for section in ("train", "validate"))
    assert any(seen > stored for stored, seen in trained_on)
    assert all(seen >= stored for stored, seen in trained_on)
    assert all(seen == stored for stored, seen in validated)


def test_the_synthetic_stage_learns_made_up_lesions_and_validates_on_the_same_ones_each_epoch(
    spine_configs, spine_settings
):
    parser = parsed(spine_configs, spine_settings, "lesion_synthetic")
    assert all(0 <= seen < 200 for _, seen in masks_of(parser, "train"))
    loader = parser.get_parsed_content("validate#dataloader")
    labels = []
    for epoch in (1, 2):
        loader.sampler.set_epoch(epoch)
        labels.append(torch.cat([batch["label"] for batch in loader]))
    assert labels[0].any()
    assert torch.equal(*labels)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "changed"),
    [
        ("lesion", {"architecture": "attention_unet", "loss": "dice", "optimizer": "sgd", "scheduler": "constant"}),
        ("lesion", {"architecture": "flexible_unet", "synthetic_val": True, "scheduler": "plateau", "num_workers": 2}),
        ("cord_visible", {"architecture": "efficientnet_b0", "weighted_sampler": False, "class_weights": True}),
    ],
    ids=["attention-dice-sgd", "flexible-synthetic-plateau", "efficientnet-class-weights"],
)
def test_every_choice_trains(spine_configs, spine_settings, tmp_path, stage, changed):
    folder = train(spine_configs, stage, tmp_path, **{**spine_settings, "max_epochs": 2, **changed})
    history = metrics_of(folder)["history"]
    assert [entry["epoch"] for entry in history] == [1, 2]
    assert all(math.isfinite(entry["train_loss"]) for entry in history)


@pytest.mark.parametrize("network", ["resnet18", "resnet50", "efficientnet_b0"])
def test_classifiers_are_one_definition_with_the_backbone_of_their_name(spine_configs, spine_settings, network):
    found = parsed(spine_configs, spine_settings, "sequence", architecture=network).get_parsed_content("network_def")
    assert found.head[-1].out_features == 4
    with torch.device("meta"):
        expected = SliceClassifier(network, num_classes=4)
    assert found.backbone.state_dict().keys() == expected.backbone.state_dict().keys()


def test_a_slice_of_one_value_is_prepared_without_nan(spine_configs, spine_settings):
    image = torch.full((1, 40, 30), 7.0)
    for transform in parsed(spine_configs, spine_settings, "lesion").get_parsed_content("preparation"):
        image = transform({"image": image})["image"]
    assert image.shape == (1, 32, 32)
    assert torch.isfinite(image).all()


@pytest.mark.slow
def test_evaluation_of_a_classifier_s_newest_run_repeats_its_validation(trained, spine_configs, spine_settings):
    folder = trained("anatomy")
    found = metrics_of(train(spine_configs, "anatomy", folder.parents[1], ["evaluate.json"], **spine_settings))[
        "metrics"
    ]
    expected = metrics_of(folder)["metrics"]
    for name in ("f1", "accuracy", "val_loss"):
        assert found[name] == pytest.approx(expected[name], rel=1e-5), name


@pytest.mark.slow
def test_a_classifier_lists_who_is_where_and_what_was_predicted(trained):
    folder = trained("sequence")
    cases = [{row["slice"] for row in rows_of(folder / "splits" / f"fold_1_{part}.csv")} for part in ("train", "val")]
    assert not cases[0] & cases[1]
    predicted = {row["case"] for row in rows_of(folder / "predictions" / "val_predictions.csv")}
    assert len(predicted) == 16
    assert predicted < cases[1]


@pytest.fixture
def settings_file(tmp_path):
    def write(**settings):
        path = tmp_path / "my_data.json"
        path.write_text(json.dumps(settings))
        return str(path)

    return write


@pytest.mark.slow
def test_settings_of_a_data_set_come_from_a_file_and_the_command_line_counts_more(
    spine_configs, spine_settings, settings_file, tmp_path
):
    file = settings_file(image_size=64, visible_area=0.01, flip_prob=0.0)
    settings = {**spine_settings, "dataset_settings": file, "flip_prob": 0.25}
    del settings["image_size"]
    folder = train(spine_configs, "cord_visible", tmp_path / "runs", **settings)
    assert checkpoint_of(folder)["settings"]["image_size"] == 64
    parameters = json.loads((folder / "run.json").read_text())["parameters"]
    assert (parameters["visible_area"], parameters["flip_prob"]) == (0.01, 0.25)


def test_a_file_with_a_setting_that_is_not_of_data_is_refused(spine_configs, settings_file):
    with pytest.raises(ConfigError, match=r"my_data\.json: 'lr' isn't a setting of data"):
        read_bundle_config(files_of(spine_configs, "lesion"), {"dataset_settings": settings_file(lr=1.0)})


@pytest.mark.parametrize(
    ("stage", "changed", "kind", "text"),
    [
        ("lesion", {"architecture": "resnet18"}, ConfigError, "--architecture resnet18: isn't for --task segmentation"),
        ("anatomy", {"architecture": "cord_unet"}, ConfigError, "choose resnet18, resnet50, efficientnet_b0"),
        ("anatomy", {"loss": "dice"}, ConfigError, "--loss dice: isn't for --task classification"),
        ("lesion", {"labels": "folders"}, ConfigError, "--labels folders: is for --task classification"),
        ("lesion", {"labels": "mask"}, ConfigError, "--labels mask: must be masks, synthetic"),
        ("lesion", {"image_size": 40}, ConfigError, "--image_size 40: must be a multiple of 16"),
        ("lesion", {"weighted_sampler": True}, ConfigError, "--weighted_sampler: is for classifiers"),
        ("cord_visible", {"classes": ["cord"]}, ConfigError, "--labels visible needs two"),
        ("cord_visible", {"visible_area": 2.0}, ConfigError, "--visible_area 2.0"),
        ("lesion", {"num_folds": 9}, DataError, "too few for 9 folds"),
        ("lesion", {"dataset_settings": "absent.json"}, DataError, "absent.json: file not found"),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else None,
)
def test_a_wrong_setting_is_told_in_one_sentence(spine_configs, spine_settings, tmp_path, stage, changed, kind, text):
    with pytest.raises((RuntimeError, kind)) as caught:
        train(spine_configs, stage, tmp_path, **{**spine_settings, **changed})
    error = user_error(caught.value)
    assert isinstance(error, kind)
    assert text in str(error)


@pytest.mark.parametrize("overlays", [(), ("evaluate.json",)], ids=["train", "evaluate"])
def test_monai_finds_all_properties_of_a_classifier_without_weights(spine_configs, spine_settings, overlays, tmp_path):
    workflow = ConfigWorkflow(
        config_file=files_of(spine_configs, "anatomy", *overlays),
        workflow_type="train",
        logging_file=False,
        output_dir=str(tmp_path / "runs"),
        **spine_settings,
    )
    workflow.initialize()
    assert workflow.check_properties() == []
    assert list(tmp_path.rglob("run_*")) == [], "looking at a bundle must not start a run"


def test_the_default_config_is_the_published_recipe(spine_configs):
    config = json.loads((spine_configs / "train.json").read_text())
    assert (config["image_size"], config["features"], config["architecture"]) == (320, 16, "cord_unet")
    assert (config["lr"], config["optimizer"], config["batch_size"], config["max_epochs"]) == (1e-3, "adam", 64, 200)
    assert (config["seed"], config["keep_best"]) == (420, 5)
    for stage in CLASSIFIERS:
        overlay = json.loads((spine_configs / f"stage_{stage}.json").read_text())
        assert (overlay["image_size"], overlay["optimizer"], overlay["keep_best"]) == (224, "adamw", 3)
        assert overlay["weighted_sampler"]
    assert json.loads((spine_configs / "stage_location_view.json").read_text())["flip_prob"] == 0
