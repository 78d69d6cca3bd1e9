"""Overrides that worked with the first configs still do, or the error names their successors."""

import inspect
import json
import pydoc
from pathlib import Path

import pytest

from monai_ext.errors import ConfigError
from monai_ext.settings import check_override

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
    ],
)
def test_the_successor_of(name, key, successor):
    with pytest.raises(ConfigError, match=f"^--{key}: is now --{successor}$"):
        check_override(read(name), key)
