"""Overrides that worked with the first configs still do, or the error names their successors."""

import inspect
import json
import pydoc
from pathlib import Path

import pytest

from monai_ext.errors import ConfigError
from monai_ext.settings import check_override
from monai_ext.settings.keys import check_effect, check_reference
from monai_ext.settings.schema import settings_schema

ROOT = Path(__file__).parents[2]
# The keys of train.json and inference.json of each bundle, without their values.
FIRST = json.loads((ROOT / "tests" / "golden" / "override_keys.json").read_text())


def keys(node, above=()):
    for name, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield "#".join((*above, str(name)))
        yield from keys(value, (*above, str(name)))


def at(config, key):
    for part in key.split("#") if key else ():
        config = config[int(part) if isinstance(config, list) else part]
    return config


def refusal(config, key):
    try:
        check_override(config, key)
    except ConfigError as error:
        return str(error)
    return None


def read(name):
    bundle, file = name.split("/")
    return json.loads((ROOT / "bundles" / bundle / "configs" / f"{file}.json").read_text())


@pytest.mark.parametrize("name", FIRST)
def test_every_key_is_there_or_accepted_or_its_successor_is_named(name):
    config = read(name)
    there = set(keys(config))
    for key in set(keys(FIRST[name])) - there:
        message = refusal(config, key)
        if message is None:
            component, _, argument = key.rpartition("#")
            target = pydoc.locate(at(config, component)["_target_"])
            assert argument in inspect.signature(target).parameters, key
        else:
            assert message.startswith(f"--{key}: is now --"), message
            assert message.split("--")[-1] in there, message


@pytest.mark.parametrize(
    ("name", "key", "successor"),
    [
        ("brats_resnet50/train", "train#dataset#data#modality", "items#modality"),
        ("brats_resnet50/train", "validate::dataset::data::section", "items"),
        ("nuclei_vgg3d/train", "splits#sample_percent", "items#sample_percent"),
        ("nuclei_vgg3d/train", "train#step#amp", "autocast#amp"),
        ("surface_unet/train", "validate#evaluator#amp#precision", "autocast#amp"),
        ("surface_unet/train", "autocast_dtype", "autocast"),
        ("ct_rate_multilabel/inference", "spacing#default#1", "saved#defaults#spacing"),
        ("spinal_cord_cascade/train", "networks#resnet18#dropout", "slice_classifier#dropout"),
        ("spinal_cord_cascade/inference", "network", "architecture"),
        ("spinal_cord_cascade/inference", "inferer#vote", "cascade#vote"),
        ("surface_unet/inference", "inferer#chunk_size", "zarr_inferer#chunk_size"),
        ("spinal_cord_cascade/train", "trained_network", "network"),
    ],
)
def test_the_successor_of(name, key, successor):
    with pytest.raises(ConfigError, match=f"^--{key}: is now --{successor}$"):
        check_override(read(name), key)


def test_a_network_by_name_is_refused_where_the_network_object_has_that_id():
    config = read("spinal_cord_cascade/train")
    check_effect(config, [])
    with pytest.raises(ConfigError, match=r"^--network resnet18: is now --architecture resnet18$"):
        check_effect({**config, "network": "resnet18"}, ["network"])
    with pytest.raises(ConfigError, match=r"^--network resnet18: is the trained network, not a name$"):
        check_effect({**read("brats_resnet50/train"), "network": "resnet18"}, ["network"])


def test_a_setting_is_not_changed_in_the_plain_inferer_alone_which_no_command_runs():
    schema = settings_schema(ROOT / "bundles" / "surface_unet")
    with pytest.raises(ConfigError, match=r"^--inferer#overlap: is --overlap"):
        check_reference(read("surface_unet/inference"), "inferer#overlap", schema)
