"""Lists of image and label files, with which MONAI Label overrides the data of a training, as a setting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai_ext.errors import ConfigError
from monai_ext.settings.schema import Rule

_TRAIN, _VAL, _EPOCHS = "train#dataset#data", "validate#dataset#data", "train#trainer#max_epochs"
_ITEMS = {_TRAIN: "$@items['train']", _VAL: "$@items['val']"}


def take_datalist(parser: Any, given: dict[str, Any], schema: Mapping[str, Rule]) -> None:
    """Turn the ids of the Model Zoo that MONAI Label's ``BundleTrainTask`` overrides into the bundle's own settings.

    Its list of images and masks goes to the setting that the schema marks by ``"x-datalist"``, as ``{"image", "label",
    "validation"}``, for patches or slices are made of it first. A mask has one structure: of several targets the first
    is trained.

    Args:
        parser: a `monai.bundle.ConfigParser` with the overrides in it; changed.
        given: overrides by key; changed.
        schema: the bundle's settings.

    Raises:
        ConfigError: for such a list in a bundle that isn't trained on masks.
    """
    if not _is_datalist(given.get(_TRAIN)):
        return
    setting = next((name for name, rule in schema.items() if rule.get("x-datalist")), None)
    if setting is None:
        raise ConfigError(f"--{_TRAIN}: this bundle learns classes, not masks; train it with its dataset_dir")
    settings: dict[str, Any] = {setting: []}
    for key, items in _ITEMS.items():
        settings[setting] += [{**pair, "validation": key == _VAL} for pair in given.pop(key, None) or ()]
        dataset = parser[key.removesuffix("#data")]
        dataset.pop("data", None)
        if "positions" not in dataset:
            dataset["data"] = items
    if _EPOCHS in given:
        settings["max_epochs"] = given.pop(_EPOCHS)
        parser[_EPOCHS] = "@max_epochs"
    if len(parser.get("targets") or ()) > 1:
        settings["targets"] = dict(list(parser["targets"].items())[:1])
    for name, value in settings.items():
        parser[name] = value
    given |= settings


def _is_datalist(items: Any) -> bool:
    """Whether these are pairs of files: a label that is a number is an item of a classifier."""
    return isinstance(items, list) and all(
        isinstance(item, Mapping) and item.keys() == {"image", "label"} and isinstance(item["label"], str)
        for item in items
    )
