"""What MONAI Label overrides in a training becomes settings of the bundle."""

import json
from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from monai_ext.errors import ConfigError
from monai_ext.settings.datalist import take_datalist
from monai_ext.settings.schema import settings_schema

BUNDLES = Path(__file__).parents[2] / "bundles"
A, B = ({"image": f"{name}.nii.gz", "label": f"{name}_label.nii.gz"} for name in "ab")


def taken(bundle, **changed):
    """The config and the overrides afterwards."""
    given = {"train#dataset#data": [A], "validate#dataset#data": [B], "train#trainer#max_epochs": 3, **changed}
    parser = ConfigParser()
    parser.read_config(str(BUNDLES / bundle / "configs" / "train.json"))
    parser.update(given)
    take_datalist(parser, given, settings_schema(BUNDLES / bundle))
    return parser, given


@pytest.mark.parametrize("bundle", ["surface_unet", "spinal_cord_cascade"])
def test_pairs_of_files_and_epochs_are_settings_and_the_rest_is_as_it_was(bundle):
    parser, given = taken(bundle)
    config = json.loads((BUNDLES / bundle / "configs" / "train.json").read_text())
    assert parser.get("volumes") == [{**A, "validation": False}, {**B, "validation": True}]
    assert parser.get("max_epochs") == 3
    for part in ("train", "validate"):
        assert parser.get()[part] == config[part]
    targets = {"targets"} if bundle == "surface_unet" else set()
    assert given.keys() == {"volumes", "max_epochs"} | targets


def test_of_several_targets_the_first_is_trained_as_a_mask_has_one_structure():
    parser, _ = taken("surface_unet")
    assert list(parser.get("targets")) == ["sheet"]


def test_without_a_validation_list_the_bundle_splits():
    parser, _ = taken("spinal_cord_cascade", **{"validate#dataset#data": []})
    assert parser.get("volumes") == [{**A, "validation": False}]


def test_a_classifier_refuses_masks():
    with pytest.raises(ConfigError, match=r"^--train#dataset#data: this bundle learns classes, not masks"):
        taken("brats_resnet50")


def test_other_lists_stay_overrides():
    items = [{"image": "a.nii.gz", "label": 1}]
    parser, given = taken("brats_resnet50", **{"train#dataset#data": items})
    assert parser.get("train#dataset#data") == given["train#dataset#data"] == items
