"""Words of a command line as settings."""

from __future__ import annotations

import pytest

from monai_ext.settings.command_line import as_typed


@pytest.mark.parametrize("words", [["--inputs", "['a.zarr#channel=1']"], ["--inputs=['a.zarr#channel=1']"]], ids=len)
def test_a_hash_in_a_list_is_what_was_typed(words) -> None:
    """MONAI changes lists and tables of the command line in place."""
    given = {"inputs": ["a.zarr::channel=1"], "level": 0, "output_dir": "out#1"}
    words = ["run", *words, "--level", "0", "--output_dir", "out#1"]
    assert as_typed(given, words) == {**given, "inputs": ["a.zarr#channel=1"]}


def test_settings_from_elsewhere_stay() -> None:
    given = {"inputs": ["a.zarr"], "targets": {"sheet": {"channels": 1}}}
    assert as_typed(given, ["-m", "pytest", "--inputs", "none"]) == given
