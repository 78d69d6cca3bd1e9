"""Synthetic data appear as a whole, also when two processes make them at the same time."""

import pytest

from monai_ext.data.demo_folder import write_folder
from monai_ext.errors import DataError
from monai_ext.owners import owner


def fill(folder):
    (folder / "case").touch()


def test_of_two_that_make_the_same_data_both_end_well(tmp_path):
    def slow(folder):
        write_folder(tmp_path / "demo", {"seed": 0}, fill)  # meanwhile
        fill(folder)

    write_folder(tmp_path / "demo", {"seed": 0}, slow)
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]
    assert (tmp_path / "demo" / "case").exists()


def test_other_data_made_meanwhile_stay(tmp_path):
    def slow(folder):
        write_folder(tmp_path / "demo", {"seed": 1}, fill)

    with pytest.raises(DataError, match="is not this demo"):
        write_folder(tmp_path / "demo", {"seed": 0}, slow)
    assert '"seed": 1' in (tmp_path / "demo" / "demo.json").read_text()


def test_what_a_killed_maker_left_is_swept_and_a_living_one_s_kept(tmp_path):
    left, living = tmp_path / ".demo.partial", tmp_path / f".demo.{owner()}.1.partial"
    for folder in (left, living):
        folder.mkdir()
    write_folder(tmp_path / "demo", {"seed": 0}, fill)
    assert {path.name for path in tmp_path.iterdir()} == {"demo", living.name}
