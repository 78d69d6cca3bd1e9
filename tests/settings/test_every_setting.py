"""Every setting of every bundle refuses what it can't be, by name and before anything is read or written."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monai_ext.error_report import WRONG_INPUT, describe
from monai_ext.errors import ConfigError
from monai_ext.settings import read_bundle_config, settings_schema, settle
from monai_ext.settings.schema import convert, is_valid

ROOT = Path(__file__).parents[2]
SCHEMAS = {folder.name: settings_schema(folder) for folder in sorted((ROOT / "bundles").iterdir())}
EVERY = [pytest.param(bundle, name, id=f"{bundle}-{name}") for bundle, schema in SCHEMAS.items() for name in schema]
OF_ANY_KIND = ["perhaps", "", "1e999", None, True, -1, -0.5, 0, 1.5, 10**9, float("nan"), [], ["a"], [-1, -1], {"a": 1}]


def wrong_values(rule):
    return [value for value in OF_ANY_KIND if not is_valid(rule, convert(rule, value))]


def config_of(bundle, name):
    """A config of the bundle that has the setting."""
    configs = ROOT / "bundles" / bundle / "configs"
    for files in (["train.json"], ["inference.json"], ["train.json", "evaluate.json"]):
        paths = [configs / file for file in files]
        if any(name in json.loads(path.read_text()) for path in paths):
            return [str(path) for path in paths]
    raise AssertionError(f"{name} is in no config")


@pytest.mark.parametrize(("bundle", "name"), EVERY)
def test_a_value_that_a_setting_can_not_have_is_refused_before_anything_is_written(bundle, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wrong = wrong_values(SCHEMAS[bundle][name])
    assert wrong, "nothing is wrong for this setting: its rule says nothing"
    for value in wrong:
        with pytest.raises(ConfigError, match=f"^--{name}[ #]"):
            settle(SCHEMAS[bundle], {name: value})
    with pytest.raises(ConfigError) as caught:
        read_bundle_config(config_of(bundle, name), {name: wrong[0]})
    sentence, code = describe(caught.value)
    assert code == WRONG_INPUT
    assert f"--{name} " in sentence
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bundle", SCHEMAS)
@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("true", "True", "TRUE", "yes", "Yes", "on", "ON"), True),
        (("false", "False", "FALSE", "no", "No", "off", "OFF"), False),
        (("null", "Null", "NULL", "none", "None"), None),
    ],
    ids=["true", "false", "null"],
)
def test_every_spelling_of_true_false_and_null_is_what_it_says(bundle, words, meant):
    taking = [name for name, rule in SCHEMAS[bundle].items() if is_valid(rule, meant)]
    assert taking
    for word in words:
        assert settle(SCHEMAS[bundle], dict.fromkeys(taking, word)) == dict.fromkeys(taking, meant)


@settings(max_examples=30)  # of each of the 400 settings
@given(text=st.text())
def test_any_text_is_converted_to_an_allowed_value_or_refused(text):
    for schema in SCHEMAS.values():
        for name, rule in schema.items():
            try:
                value = settle({name: rule}, {name: text})[name]
            except ConfigError as error:
                value, refused = None, str(error)
            else:
                refused = ""
            expected = is_valid(rule, value) or text.startswith(("$", "@", "%"))
            assert refused.startswith(f"--{name} ") or expected
