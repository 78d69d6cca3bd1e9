"""Stacks and masks as laboratories have them: gaps, copies, inverted images, masks that aren't."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import tifffile

from monai_ext import nuclei
from monai_ext.data.problems import Problem, warn_once
from monai_ext.errors import DataError
from monai_ext.transforms import LoadCropd

SHAPE = (6, 12, 14)
IMAGE = np.random.default_rng(0).integers(1, 250, SHAPE).astype(np.uint8)
MASK = np.where(IMAGE > 99, 255, 0).astype(np.uint8)


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """One nucleus with its mask."""
    folder = tmp_path / "0001"
    for part, volume in (("raw", IMAGE), ("mask", MASK)):
        (folder / part).mkdir(parents=True)
        for number, pixels in enumerate(volume):
            tifffile.imwrite(folder / part / f"s_{number}.tif", pixels)
    warn_once.cache_clear()
    return folder


def problems_of(sample: Path) -> list[Problem]:
    """Those of the files: a single sample has no class table."""
    return [problem for problem in nuclei.check(sample) if problem.path != str(sample)]


def found(sample: Path) -> list[tuple[str, str, str]]:
    return [(Path(problem.path).name, problem.severity, problem.code) for problem in problems_of(sample)]


def crop_of(index: nuclei.NucleiIndex) -> dict:
    (nucleus,) = index.samples
    item = {"image": nucleus.image, "crop_z": 0, "crop_y": 0, "crop_x": 0}
    return LoadCropd(crop_size=SHAPE, margin=0)(item | ({"mask": nucleus.mask} if nucleus.mask else {}))


def test_a_good_sample_has_no_finding(sample: Path, caplog) -> None:
    assert found(sample) == []
    crop_of(nuclei.index(sample, labels="optional", use_mask=True))
    assert not caplog.records


def test_a_gap_is_a_warning_in_check_and_in_training(sample: Path, caplog) -> None:
    for part in ("raw", "mask"):
        (sample / part / "s_2.tif").unlink()
        (sample / part / "s_3.tif").unlink()
    assert found(sample) == [("raw", "warning", "gap")]
    with caplog.at_level(logging.WARNING):
        nuclei.index(sample, labels="optional")
        nuclei.index(sample, labels="optional")
    assert [record.getMessage() for record in caplog.records] == [
        f"{sample / 'raw'}: has a gap of 2 in its numbers between s_1.tif and s_4.tif"
    ]


@pytest.mark.parametrize("copy", ["s_2.tiff", "s_2.TIF", "s_02.tif", "S_2.tif"])
def test_copies_of_a_slice_are_a_warning_by_name(sample: Path, copy: str, caplog) -> None:
    for part in ("raw", "mask"):
        (sample / part / copy).write_bytes((sample / part / "s_2.tif").read_bytes())
    assert found(sample) == [("raw", "warning", "copies")]
    with caplog.at_level(logging.WARNING):
        nuclei.index(sample, labels="optional")
    assert copy in caplog.text
    assert "s_2.tif" in caplog.text


@pytest.mark.parametrize(
    "names",
    [
        [f"z{number}.tif" for number in range(0, 60, 10)],
        [f"{time}_{number}.tif" for number, time in enumerate((9, 11, 40, 41, 77, 90))],
        ["a.tif", "b.tif", "c.tif", "d.tif", "e.tif", "f.tif"],
        ["1.tif", "5.tif", "6.tif", "40.tif", "41.tif", "99.tif"],
    ],
    ids=["every tenth", "two numbers", "letters", "no pattern"],
)
def test_names_without_a_gap_are_left_alone(sample: Path, names: list[str]) -> None:
    for part in ("raw", "mask"):
        for old, new in zip([f"s_{number}.tif" for number in range(6)], names, strict=True):
            (sample / part / old).rename(sample / part / new)
    assert found(sample) == []


@pytest.mark.parametrize("wrong", [0, 3], ids=["the first", "another"])
@pytest.mark.parametrize(("change", "what"), [(np.float32, "data type float32"), (lambda v: v[:-1], "shape")])
def test_one_slice_that_is_unlike_the_others_is_the_only_one_named(sample: Path, wrong: int, change, what) -> None:
    tifffile.imwrite(sample / "raw" / f"s_{wrong}.tif", change(IMAGE[wrong]))
    assert found(sample) == [(f"s_{wrong}.tif", "error", "unusable")]
    (problem,) = problems_of(sample)
    assert f"has {what}" in problem.message
    assert "but 5 others have" in problem.message
    with pytest.raises(DataError, match=rf"raw.s_{wrong}\.tif: has {what}"):
        nuclei.index(sample, labels="optional")


@pytest.mark.parametrize("inverted", [range(6), (1, 4)], ids=["all", "some"])
@pytest.mark.parametrize("compression", [None, "lzw"], ids=["plain", "lzw"])
def test_white_as_zero_is_inverted_from_the_files_and_from_the_index(
    sample: Path, tmp_path: Path, inverted, compression
) -> None:
    expected = crop_of(nuclei.index(sample, labels="optional", use_mask=True))
    for number in inverted:
        for part, volume in (("raw", IMAGE), ("mask", MASK)):
            path = sample / part / f"s_{number}.tif"
            tifffile.imwrite(path, 255 - volume[number], photometric="miniswhite", compression=compression)
    for _ in range(2):  # made, and read from the file of the index
        crop = crop_of(nuclei.index(sample, labels="optional", use_mask=True, index_dir=tmp_path / "index"))
        for key in ("image", "mask"):
            np.testing.assert_array_equal(crop[key], expected[key])
    assert found(sample) == []


@pytest.mark.parametrize("compression", ["jpeg", "jpeg2000"])
def test_a_lossy_mask_is_refused_and_a_lossy_image_is_not(sample: Path, compression: str) -> None:
    for part in ("raw", "mask"):
        tifffile.imwrite(sample / part / "s_3.tif", IMAGE[3], compression=compression)
    assert found(sample) == [("s_3.tif", "error", "mask-format")]
    nuclei.index(sample, labels="optional")
    with pytest.raises(DataError, match=r"mask.s_3\.tif: is a mask in a format that may be lossy"):
        nuclei.index(sample, labels="optional", use_mask=True)


@pytest.mark.parametrize(
    ("values", "shown"),
    [((0, 1, 2), "3 values (0, 1, 2)"), ((1, 2), "2 values (1, 2), none of them 0"), (range(9), "0, 1, 2, 3, 4, ...")],
    ids=["labels", "no background", "intensities"],
)
def test_a_mask_of_several_values_is_a_warning_that_names_them(sample: Path, values, shown: str, caplog) -> None:
    for number in range(6):
        tifffile.imwrite(sample / "mask" / f"s_{number}.tif", np.resize(values, SHAPE[1:]).astype(np.uint8))
    (problem,) = problems_of(sample)
    assert (problem.path, problem.severity, problem.code) == (str(sample / "mask"), "warning", "mask-values")
    assert shown in problem.message
    with caplog.at_level(logging.WARNING):
        crop_of(nuclei.index(sample, labels="optional", use_mask=True))
    assert f"{sample / 'mask'}: {problem.message}" in caplog.text


def test_values_count_over_the_whole_stack(sample: Path) -> None:
    for number in range(6):
        tifffile.imwrite(sample / "mask" / f"s_{number}.tif", (MASK[number] > 0) * np.uint8(1 + number % 2))
    assert found(sample) == [("mask", "warning", "mask-values")]
