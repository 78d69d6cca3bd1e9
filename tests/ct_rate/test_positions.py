from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from ct_helpers import chest, save_ct
from hypothesis import given
from hypothesis import strategies as st

from monai_ext.ct_rate import slice_positions
from monai_ext.ct_rate.chest_ct import read_chest_ct
from monai_ext.ct_rate.chest_range import chest_range
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
    assert chest_range(ct) == (4, 15)


def test_gas_in_the_stomach_is_no_chest(tmp_path: Path) -> None:
    volume = chest(lungs=(8, 17))
    volume[2:5, 14:17, 14:20] = -900
    assert chest_range(read_chest_ct(save_ct(tmp_path / "a.nii.gz", volume))) == (8, 17)


def test_without_lungs_the_whole_height_counts_with_a_warning(tmp_path: Path, caplog) -> None:
    ct = read_chest_ct(save_ct(tmp_path / "a.nii.gz", chest(lungs=(30, 31))))
    assert chest_range(ct) == (0, 19)
    assert "shows no lungs" in caplog.text
