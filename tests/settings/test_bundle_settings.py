"""``configs/settings.json`` of every bundle: complete, true of its own defaults, and the same in all bundles."""

import json
import re
from itertools import combinations
from pathlib import Path

import jsonschema
import pytest

from monai_ext.settings.choices import choices
from monai_ext.settings.schema import allowed, is_computed, is_valid, settings_schema, settle

ROOT = Path(__file__).parents[2]
FILES = sorted(
    file
    for place in (ROOT, ROOT / "monai_ext" / "cli" / "template")
    for file in place.glob("bundles/*/configs/settings.json")
)
BUNDLES = [file.parents[1] for file in FILES]
NOT_OVERLAYS = ("settings.json", "metadata.json")
# What a recipe is made of, though its value looks like a setting's: it follows from others, or names parts.
INTERNAL = {
    "run",
    "keys",
    "modes",
    "target_keys",
    "interval",
    "network_def",
    "predictions",
    "intensity",
}
INTERNAL |= {"network", "prediction_keys", "prepared", "train_lesions", "val_lesions", "index", "items"}
# Settings that are components because a function finds their default.
FOUND = "monai_ext.workflow."
# Same name, another rule, for a reason.
DIFFERENT = {
    "volumes": "sets of arrays of any targets; or images and their masks",
    "classes": "labels that are learnt from a fixed list; or names found in a folder, none for a segmentation",
    "engine": "blocks of a volume can't each choose their fastest",
    "image_size": "the least that the network takes",
    "index_dir": "patches need a file; crops don't",
    "inputs": "folders of nuclei can't be listed",
    "class_names": "a glioma has two grades",
    "previews": "the cascade's inference only has them or hasn't",
    "rotate_range": "a volume has three axes",
}
MEANING = ("description", "x-default", "x-original", "x-dataset", "x-datalist")


def test_all_bundles_have_settings():
    assert len(BUNDLES) == 6
    assert {bundle.name for bundle in BUNDLES} >= {path.parent.name for path in ROOT.glob("bundles/*/configs")}


def named(bundles):
    return [pytest.param(bundle, id=bundle.name) for bundle in bundles]


def read(bundle, name):
    return json.loads((bundle / "configs" / name).read_text(encoding="utf-8"))


def configs_of(bundle):
    paths = sorted((bundle / "configs").glob("*.json"))
    return {path.name: read(bundle, path.name) for path in paths if path.name not in NOT_OVERLAYS}


def is_part(value):
    """Whether a value is a component or made of some, not something that a user gives."""
    if isinstance(value, dict):
        return not str(value.get("_target_", "")).startswith(FOUND)
    return isinstance(value, list) and any(isinstance(entry, dict) and "_target_" in entry for entry in value)


@pytest.mark.parametrize("bundle", named(BUNDLES))
def test_every_plain_key_is_a_setting_and_every_setting_a_key(bundle):
    configs = configs_of(bundle)
    schema = settings_schema(bundle)
    for name, config in configs.items():
        for key, value in config.items():
            if "#" not in key and not is_part(value):
                follows = key in INTERNAL or (key == "class_names" and is_computed(value))
                assert key in schema or follows, f"{key} of {name} is missing in settings.json"
    assert set(schema) <= {key for config in configs.values() for key in config}


@pytest.mark.parametrize("bundle", named(BUNDLES))
def test_every_default_is_allowed(bundle):
    schema = settings_schema(bundle)
    for name, config in configs_of(bundle).items():
        for values in (config, config.get("saved", {}).get("defaults", {})):
            assert settle(schema, values) == values, name


@pytest.mark.parametrize("file", [pytest.param(file, id=file.parents[1].name) for file in FILES])
def test_is_a_json_schema_whose_properties_stand_for_themselves(file):
    content = json.loads(file.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(content)
    assert "$ref" not in file.read_text(encoding="utf-8")
    for name, rule in content["properties"].items():
        # a misspelt keyword would be no rule at all
        assert rule.keys() <= {*MEANING, "type", "enum", "items", "minItems", "maxItems", "uniqueItems", "not"} | {
            *("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "minProperties", "minLength"),
            "additionalProperties",
        }, name
        assert ("type" in rule) != ("enum" in rule), name
        assert allowed(rule) != "any value", name


@pytest.mark.parametrize("bundle", named(BUNDLES))
def test_descriptions_are_one_line_and_say_what_null_means(bundle):
    for name, rule in settings_schema(bundle).items():
        text = rule["description"]
        assert re.fullmatch(r"[A-Z0-9c].{8,95}\.", text), name
        if "null" in rule.get("type", ()):
            assert re.search(r"\bnull\b", text), name


@pytest.mark.parametrize("bundle", named(BUNDLES))
def test_choices_that_stand_in_a_table_are_not_repeated(bundle):
    schema = settings_schema(bundle)
    for name in choices(read(bundle, "train.json")):
        assert schema[name].get("type") == "string" or name == "task", name


def test_the_same_name_has_the_same_rule_in_all_bundles():
    found = set()
    for one, other in combinations(BUNDLES, 2):
        first, second = settings_schema(one), settings_schema(other)
        for name in first.keys() & second.keys():
            rules = [{key: value for key, value in s[name].items() if key not in MEANING} for s in (first, second)]
            if rules[0] != rules[1]:
                assert name in DIFFERENT, f"{name}: {one.name} and {other.name} differ"
                found.add(name)
    assert found == set(DIFFERENT)


@pytest.mark.parametrize(
    ("bundle", "name", "good", "bad"),
    [
        ("brats_resnet50", "lr", [1e-6, 1], [0, -1, "fast", None, True]),
        ("brats_resnet50", "max_epochs", [1], [0, -1, 1.5, None]),
        ("brats_resnet50", "early_stopping_patience", [0, None, 3], [-1, 1.5]),
        ("brats_resnet50", "num_workers", [0, 8], [-1, None]),
        ("brats_resnet50", "modality", ["t1ce", "all"], ["T1", "t3", None]),
        ("brats_resnet50", "device", ["cuda:1", 1], [-1, None, 0.5]),
        ("nuclei_vgg3d", "crop_size", [80, [80, 60, 60]], [0, [80, 60], [80, 60, 0], 80.5, None]),
        ("nuclei_vgg3d", "use_mask", [True, False], ["false", 0, None]),
        ("ct_rate_multilabel", "in_channels", [1, 3], [0, 2, 4]),
        ("ct_rate_multilabel", "spacing", [[1.5, 0.7, 0.7]], [[1.5, 0.7, 0], [1.5, 0.7], 1.5]),
        ("spinal_cord_cascade", "rotate_range", [0, 0.26], [15, -0.1]),
        ("surface_unet", "f_maps", [[4, 8], [32, 64, 528]], [[32], [32, 65], [0, 8]]),
        ("surface_unet", "ignore_label", [255, None], [0]),
        ("surface_unet", "targets", [{"ink": {"channels": 1}}], [{}, {"ink": {}}, {"ink": {"channels": 0}}]),
        ("surface_unet", "bbox", [None, [[0, 8], [0, 8], [2, 8]]], [[0, 8], [[0, 8], [0, 8], [-2, 8]]]),
        ("surface_unet", "test_fraction", [0, 0.5], [1, -0.1, None]),
    ],
)
def test_rules_are_those_of_the_code(bundle, name, good, bad):
    rule = settings_schema(ROOT / "bundles" / bundle)[name]
    assert [value for value in good if not is_valid(rule, value)] == []
    assert [value for value in bad if is_valid(rule, value)] == []


@pytest.mark.parametrize("bundle", named(BUNDLES))
def test_words_in_place_of_a_default_are_given_only_where_the_config_has_no_value(bundle):
    configs = [config for name, config in configs_of(bundle).items() if name in ("train.json", "inference.json")]
    configs.append(configs_of(bundle)["evaluate.json"])
    for name, rule in settings_schema(bundle).items():
        values = [config[name] for config in configs if name in config]
        if "x-default" in rule:
            assert any(is_computed(value) or isinstance(value, dict) for value in values), name
