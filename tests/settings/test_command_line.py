"""Words of a command line as settings."""

from __future__ import annotations

import pytest

from monai_ext.errors import ConfigError
from monai_ext.settings.command_line import as_typed, find_bundle, parse_overrides


@pytest.mark.parametrize("words", [["--inputs", "['a.zarr#channel=1']"], ["--inputs=['a.zarr#channel=1']"]], ids=len)
def test_a_hash_in_a_list_is_what_was_typed(words) -> None:
    """MONAI changes lists and tables of the command line in place."""
    given = {"inputs": ["a.zarr::channel=1"], "level": 0, "output_dir": "out#1"}
    words = ["run", *words, "--level", "0", "--output_dir", "out#1"]
    assert as_typed(given, words) == {**given, "inputs": ["a.zarr#channel=1"]}


def test_settings_from_elsewhere_stay() -> None:
    given = {"inputs": ["a.zarr"], "targets": {"sheet": {"channels": 1}}}
    assert as_typed(given, ["-m", "pytest", "--inputs", "none"]) == given


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("mlflow,tensorboard", ("mlflow", "tensorboard")),
        ("[LGG,HGG]", ["LGG", "HGG"]),
        ("{sheet: {channels: 1}}", {"sheet": {"channels": 1}}),
        ("out#1", "out#1"),
        ("2024#1", "2024#1"),
        ("'1'", "1"),
        ("5e-4", 5e-4),
        ("a/b,c", "a/b,c"),
    ],
)
def test_words_mean_what_they_mean_to_monai_s_command_line(word, value) -> None:
    assert parse_overrides(["--setting", word]) == {"setting": value}


def test_a_folder_without_configs_is_no_bundle(tmp_path) -> None:
    with pytest.raises(ConfigError, match=f"--bundle_root {tmp_path}: has no folder configs"):
        find_bundle("brats_resnet50", tmp_path)
    (tmp_path / "configs").mkdir()
    assert find_bundle("brats_resnet50", tmp_path) == tmp_path
