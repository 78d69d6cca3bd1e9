"""A config for Python is what a run reads: files merged, settings applied, converted and checked."""

import json

import pytest
import torch
from monai.bundle import ConfigParser

from monai_ext.errors import ConfigError
from monai_ext.settings.reading import put_dataset_settings, read_bundle_config, resolved_settings

SCHEMA = {
    "lr": {"type": "number"},
    "image_size": {"type": "integer", "x-dataset": True},
    "crop": {"type": "number", "x-dataset": True},
}


@pytest.fixture
def parser(tmp_path):
    parsed = ConfigParser({"lr": 1.0, "image_size": 320, "crop": 0.1})
    parsed["dataset_settings"] = str(tmp_path / "mine.json")
    return parsed


def test_settings_of_a_data_set_replace_the_config_s_but_not_those_given_by_hand(parser, tmp_path):
    (tmp_path / "mine.json").write_text('{"image_size": 224, "crop": 0.5}')
    put_dataset_settings(parser, SCHEMA, {"crop": 0.1})
    assert (parser["image_size"], parser["crop"], parser["lr"]) == (224, 0.1, 1.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"image_sise": 224}', r"mine.json: 'image_sise' isn't a setting of data; did you mean 'image_size'"),
        ('{"lr": 1}', r"mine.json: 'lr' isn't a setting of data; it has crop, image_size"),
        ("[1]", "must hold settings by name"),
    ],
    ids=["misspelt", "not-of-data", "list"],
)
def test_a_file_with_other_settings_is_refused(parser, tmp_path, text, message):
    (tmp_path / "mine.json").write_text(text)
    with pytest.raises(ConfigError, match=message):
        put_dataset_settings(parser, SCHEMA)


def test_configs_without_such_settings_stay_as_they_are():
    parsed = ConfigParser({"lr": 1.0})
    put_dataset_settings(parsed, SCHEMA)
    assert parsed.get() == {"lr": 1.0}


@pytest.fixture
def bundle(tmp_path):
    """A bundle with a schema, and settings of every type."""
    configs = tmp_path / "my_bundle" / "configs"
    configs.mkdir(parents=True)
    rules = {**SCHEMA, "use_mask": {"type": "boolean"}, "cache_dir": {"type": ["string", "null"]}}
    (configs / "settings.json").write_text(json.dumps({"properties": rules}))
    config = {"bundle_root": ".", "lr": 1e-3, "image_size": 320, "crop": 0.1, "use_mask": True, "cache_dir": "x"}
    (configs / "train.json").write_text(json.dumps(config))
    return configs


@pytest.mark.parametrize("word", ["false", "False", "no", "off", False])
def test_words_are_what_they_mean_in_every_part_of_the_config(bundle, word):
    parser = read_bundle_config(str(bundle / "train.json"), {"use_mask": word, "cache_dir": "null", "lr": "5e-4"})
    assert parser.get_parsed_content("use_mask") is False
    assert parser.get_parsed_content("cache_dir") is None
    assert parser.get_parsed_content("lr") == 5e-4
    assert parser.get_parsed_content("bundle_root") == str(bundle.parent)


def test_settings_of_an_overlay_are_checked_like_those_of_the_command_line(bundle, tmp_path):
    overlay = tmp_path / "mine.json"
    overlay.write_text('{"use_mask": "off", "image_size": "64"}')
    parser = read_bundle_config([str(bundle / "train.json"), str(overlay)], {})
    assert (parser.get("use_mask"), parser.get("image_size")) == (False, 64)
    overlay.write_text('{"use_mask": "perhaps"}')
    with pytest.raises(ConfigError, match="--use_mask perhaps: must be true or false"):
        read_bundle_config([str(bundle / "train.json"), str(overlay)], {})


def test_settings_of_a_data_set_s_file_are_checked_like_those_of_the_command_line(bundle, tmp_path):
    file, config = tmp_path / "mine.json", bundle / "train.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "dataset_settings": str(file)}))
    file.write_text('{"image_size": "64"}')
    assert read_bundle_config(str(config), {}).get("image_size") == 64
    file.write_text('{"image_size": 2.5}')
    with pytest.raises(ConfigError, match=r"--image_size 2\.5: must be a whole number"):
        read_bundle_config(str(config), {})


def test_settings_and_not_components_are_resolved():
    parser = ConfigParser(
        {"lr": 1e-4, "names": ["a", "b"], "twice": "$2 * @lr", "loss": {"_target_": "torch.nn.L1Loss"}}
    )
    parser["device"] = torch.device("cpu")
    assert resolved_settings(parser) == {"lr": 1e-4, "names": ["a", "b"], "twice": 2e-4, "device": "cpu"}


@pytest.mark.parametrize("value", ["/data/scan #2", ["/data/a", "/data/scan #2"], "50% @home #1", "it's #1 \\ 2"])
@pytest.mark.parametrize("where", ["setting", "file"])
def test_a_hash_in_a_text_stays_as_it_is(tmp_path, value, where):
    (tmp_path / "configs").mkdir()
    file = tmp_path / "configs" / "train.json"
    file.write_text(json.dumps({"dataset_dir": value if where == "file" else "", "again": "@dataset_dir"}))
    parser = read_bundle_config(str(file), {} if where == "file" else {"dataset_dir": value})
    assert parser.get_parsed_content("again") == value


def test_a_key_of_a_config_is_not_run_where_a_text_holds_a_hash(tmp_path):
    key = f"a'+str(__import__('pathlib').Path({str(tmp_path / 'run')!r}).touch())+'"
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "train.json").write_text(json.dumps({key: {"text": "#%::b", "b": 1}}))
    parser = read_bundle_config(str(tmp_path / "configs" / "train.json"), {})
    assert parser.get_parsed_content(key)["text"] == "#%::b"
    assert not (tmp_path / "run").exists()


def test_a_hash_in_a_file_gives_way_to_the_command_line(tmp_path):
    (tmp_path / "configs").mkdir()
    file = tmp_path / "configs" / "train.json"
    file.write_text(json.dumps({"dataset_dir": "/data/scan #2", "item": "@list#0", "list": [3]}))
    parser = read_bundle_config(str(file), {"dataset_dir": "/data/other"})
    assert parser.get_parsed_content("dataset_dir") == "/data/other"
    assert parser.get_parsed_content("item") == 3
