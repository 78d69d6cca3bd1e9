from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from nuclei_files import SHAPE

from monai_ext import nuclei
from monai_ext.errors import ConfigError

COUNTS = {40: 1, 79: 1, 80: 1, 81: 1, 158: 1, 159: 1, 160: 2, 161: 2, 238: 2, 239: 2, 240: 3, 241: 3, 319: 3, 320: 4}


@pytest.mark.parametrize(("length", "count"), [*COUNTS.items(), (400, 5)])
def test_crops_along_an_axis_are_counted_as_in_the_reference(length: int, count: int) -> None:
    assert nuclei.crop_grid((length, 80, 80), 80) == [(80 * i, 0, 0) for i in range(count)]
    assert len(nuclei.crop_grid((320, length, 400), [80, 80, 80])) == 4 * count * 5


def test_crops_follow_each_other_x_fastest() -> None:
    assert nuclei.crop_grid((8, 9, 3), [4, 8, 5]) == [(0, 0, 0), (4, 0, 0)]
    assert nuclei.crop_grid((2, 4, 4), 2) == [(0, 0, 0), (0, 0, 2), (0, 2, 0), (0, 2, 2)]


@pytest.mark.parametrize(
    ("crop", "sizes"), {80: (80, 60, 40), 60: (60, 40, 30), 40: (40, 20, 20)}.items(), ids=["80", "60", "40"]
)
def test_the_margin_is_bounded_by_a_quarter(crop: int, sizes: tuple[int, ...]) -> None:
    assert [nuclei.trimmed_size(crop, margin) for margin in (0, 10, 20)] == [[size] * 3 for size in sizes]


def test_the_network_gets_the_target_size_or_what_is_left_of_the_crop() -> None:
    assert nuclei.input_size(80, 10) == [60, 60, 60]
    assert nuclei.input_size([80, 60, 40], 10) == [60, 40, 20]
    assert nuclei.input_size(80, 10, 64) == [64, 64, 64]
    assert nuclei.input_size(80, 10, [32, 64, 64]) == [32, 64, 64]
    with pytest.raises(ConfigError, match="target_size must be one or three integers"):
        nuclei.input_size(80, 10, 0)


def test_crops_with_too_little_nucleus_are_dropped(root: Path, tmp_path: Path) -> None:
    for file in (root / "0001" / "mask").iterdir():
        mask = np.zeros(SHAPE[1:], np.uint8)
        mask[:4, :6] = 1
        tifffile.imwrite(file, mask)
    for file in (root / "0002" / "mask").iterdir():
        tifffile.imwrite(file, np.zeros(SHAPE[1:], np.uint8))
    options = {"crop_size": [6, 4, 4], "index_dir": tmp_path / "index", "min_nucleus": 0.4}
    for _ in range(2):  # scanned, then from the index
        found = nuclei.index(root, **options)
        assert [sample.case for sample in found.samples] == ["0001", *(f"{n:04d}" for n in range(3, 9))]
        first = found.samples[0]
        assert (first.crops, first.nucleus, first.mask) == (((0, 0, 0), (0, 0, 4)), (1.0, 0.5), None)
        (problem,) = found.problems
        assert (problem.severity, "0002" in problem.path) == ("warning", True)
    half = nuclei.index(root, **{**options, "min_nucleus": 0.6}).samples[0]
    assert half.crops == ((0, 0, 0),)


def test_padding_counts_as_background(root: Path) -> None:
    found = nuclei.index(root, crop_size=[12, 7, 8], min_nucleus=0.5)
    assert found.samples[0].nucleus == (0.5,)
