from __future__ import annotations

import json
import re
from pathlib import Path

import ct_phantoms as phantoms
import pytest
from ct_helpers import chest, save_ct
from hypothesis import given
from hypothesis import strategies as st

from monai_ext.ct_rate import slice_positions
from monai_ext.ct_rate.chest_ct import read_chest_ct
from monai_ext.ct_rate.chest_range import chest_range
from monai_ext.ct_rate.slice_images import slice_images
from monai_ext.errors import ConfigError

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "ct_rate.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("name", "expected"), GOLDEN["slice_positions"].items())
def test_positions_are_those_of_the_reference(name: str, expected: list[int]) -> None:
    start, stop, n = map(int, re.search(r"chest(\d+)-(\d+)_n(\d+)", name).groups())
    assert slice_positions(start, stop, n) == expected


@given(start=st.integers(0, 500), length=st.integers(0, 500), n=st.integers(1, 40))
def test_positions_ascend_within_the_range(start: int, length: int, n: int) -> None:
    positions = slice_positions(start, start + length, n)
    assert positions == sorted(set(positions))
    assert start <= positions[0] <= positions[-1] <= start + length
    assert len(positions) <= n


@pytest.mark.parametrize("arguments", [(5, 4, 12), (-1, 4, 12), (0, 4, 0)], ids=["empty", "negative", "none"])
def test_impossible_ranges_are_refused(arguments: tuple[int, int, int]) -> None:
    with pytest.raises(ConfigError, match="slice_positions: needs"):
        slice_positions(*arguments)


def test_the_chest_is_where_the_lungs_are(tmp_path: Path) -> None:
    ct = read_chest_ct(save_ct(tmp_path / "a.nii.gz", chest(lungs=(4, 15))))
    assert chest_range(ct) == (4, 15, "")


def test_gas_in_the_stomach_is_no_chest(tmp_path: Path) -> None:
    volume = chest(lungs=(8, 17))
    volume[2:5, 14:17, 14:20] = -900
    assert chest_range(read_chest_ct(save_ct(tmp_path / "a.nii.gz", volume))) == (8, 17, "")


def test_without_lungs_the_whole_height_counts_with_a_warning_that_names_the_file(tmp_path: Path, caplog) -> None:
    ct = read_chest_ct(save_ct(tmp_path / "a.nii.gz", chest(lungs=(30, 31))))
    first, last, doubt = chest_range(ct)
    assert (first, last) == (0, 19)
    assert doubt.startswith("shows no lungs")
    assert slice_images(ct, 12, 16).doubt == doubt
    assert f"{tmp_path / 'a.nii.gz'}: shows no lungs" in caplog.text


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (phantoms.chest, (6, 38, "")),
        (phantoms.cropped, (6, 38, "")),
        (lambda: phantoms.padded(phantoms.chest(), 0), (6, 38, "")),
        (phantoms.with_stomach_bubble, (7, 38, "")),
        (phantoms.abdomen, (0, 39, "shows no lungs, so")),
        (lambda: phantoms.abdomen(table=True), (0, 39, "shows no lungs, so")),
        (lambda: phantoms.abdomen(lung_bases=True), (33, 39, "shows only the lower end of the lungs, in 7 of 40")),
        (phantoms.head, (9, 13, "shows little lung, 4.1% of the body at most; is it")),
    ],
    ids=["chest", "crop", "padding 0", "stomach", "abdomen", "foam in the table", "lung bases", "head"],
)
def test_gas_foam_and_cells_behind_the_ears_are_no_lungs(tmp_path: Path, made, expected: tuple[int, int, str]) -> None:
    found = chest_range(read_chest_ct(phantoms.save(tmp_path / "a.nii", made())))
    assert found[:2] == expected[:2]
    assert found.doubt.startswith(expected[2])
    assert bool(found.doubt) == bool(expected[2])
