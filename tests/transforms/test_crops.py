from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from monai.data import DataLoader
from monai.transforms import RandFlipd

from monai_ext.data import PreparedDataset, TiffStack
from monai_ext.data.prepared import plain_settings
from monai_ext.errors import ConfigError, DataError
from monai_ext.transforms import ClearBackgroundd, LoadCropd, ScaleUnitd

SHAPE = (20, 24, 28)


def stack_of(folder: Path, volume: np.ndarray, **options) -> TiffStack:
    folder.mkdir(parents=True)
    for number, image in enumerate(volume, start=1):
        tifffile.imwrite(folder / f"{number}.tif", image, **options)
    return TiffStack.scan(folder)


def noise(dtype: str, top: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, top, SHAPE, endpoint=True).astype(dtype)


def item(stack: TiffStack, at=(0, 0, 0), **more) -> dict:
    return {
        "case": "1",
        "image": stack,
        "stamp": "s",
        **dict(zip(("crop_z", "crop_y", "crop_x"), at, strict=True)),
        **more,
    }


@pytest.mark.parametrize(("dtype", "top"), [("u1", 255), ("u2", 65535), ("u4", 2**32 - 1)], ids=["u8", "u16", "u32"])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"byteorder": ">"}], ids=["plain", "deflate", "big"])
def test_unsigned_voxels_are_divided_by_their_type_s_maximum(tmp_path: Path, dtype: str, top: int, options) -> None:
    volume = noise(dtype, top)
    stack = stack_of(tmp_path / "raw", volume, **options)
    image = LoadCropd(crop_size=8, margin=0)(item(stack, (8, 16, 16)))["image"]
    assert (image.dtype, image.shape) == (torch.float32, (1, 8, 8, 8))
    np.testing.assert_allclose(image[0], volume[8:16, 16:24, 16:24] / top, rtol=1e-6)


def test_a_dark_crop_is_not_brightened(tmp_path: Path) -> None:
    stack = stack_of(tmp_path / "raw", np.full(SHAPE, 51, np.uint8))
    assert LoadCropd(crop_size=8)(item(stack))["image"].unique().tolist() == pytest.approx([0.2])


@pytest.mark.parametrize(
    ("crop_size", "margin", "start", "size"),
    [
        (8, 0, (0, 0, 0), (8, 8, 8)),
        (8, 1, (1, 1, 1), (6, 6, 6)),
        (8, 10, (2, 2, 2), (4, 4, 4)),
        ([8, 12, 4], 2, (2, 2, 1), (4, 8, 2)),
    ],
    ids=["none", "one", "bounded", "uneven"],
)
def test_the_margin_is_trimmed_from_each_side(tmp_path: Path, crop_size, margin: int, start, size) -> None:
    volume = noise("u1", 255)
    image = LoadCropd(crop_size=crop_size, margin=margin)(item(stack_of(tmp_path / "raw", volume)))["image"]
    box = tuple(slice(first, first + length) for first, length in zip(start, size, strict=True))
    np.testing.assert_allclose(image[0], volume[box] / 255, rtol=1e-6)


@pytest.mark.parametrize(("depth", "edge"), [(1, 0), (3, 0), (5, 1), (8, 2), (12, 3), (20, 3)])
def test_the_margin_takes_a_quarter_of_a_thin_stack_at_most(tmp_path: Path, depth: int, edge: int) -> None:
    volume = noise("u1", 255)[:depth].clip(min=1)
    stack = stack_of(tmp_path / "raw", volume)
    mask = stack_of(tmp_path / "mask", np.where(volume > 100, 255, 0).astype(np.uint8))
    loaded = LoadCropd(crop_size=16, margin=3)(item(stack, mask=mask))
    box = volume[edge : edge + 10, 3:13, 3:13]
    np.testing.assert_allclose(loaded["image"][0, : len(box)], box / 255, rtol=1e-6)
    np.testing.assert_array_equal(loaded["mask"][0, : len(box)], box > 100)
    assert loaded["image"].shape == (1, 10, 10, 10)
    assert not loaded["image"][0, len(box) :].any()


def test_a_crop_that_is_nothing_but_padding_is_refused(tmp_path: Path) -> None:
    stack = stack_of(tmp_path / "raw", noise("u1", 255))
    with pytest.raises(DataError, match=r"raw: the crop at \(20, 0, 0\) is nothing but padding"):
        LoadCropd(crop_size=8)(item(stack, (20, 0, 0)))


@pytest.mark.parametrize("settings", [{}, {"value_range": [100, 255]}, {"percentiles": [10, 90]}], ids=str)
def test_what_lies_beyond_a_short_axis_is_black(tmp_path: Path, settings) -> None:
    image = LoadCropd(crop_size=32, margin=4, **settings)(item(stack_of(tmp_path / "raw", noise("u1", 255))))["image"]
    assert image.shape == (1, 24, 24, 24)
    assert image[0, :16, :20, :].mean() > 0.2
    assert image[0, 16:].abs().max() == 0
    assert image[0, :, 20:].abs().max() == 0


def test_percentiles_are_those_of_the_whole_stack_for_every_crop(tmp_path: Path) -> None:
    volume = noise("u2", 1000)
    volume[10:] += 3000
    low, high = np.percentile(volume[np.linspace(0, 19, 16).round().astype(int)], (5, 95))
    stack = stack_of(tmp_path / "raw", volume)
    load = LoadCropd(crop_size=8, margin=0, percentiles=[5, 95])
    for z in (0, 8):
        expected = np.clip((volume[z : z + 8, :8, :8] - low) / (high - low), 0, 1)
        np.testing.assert_allclose(load(item(stack, (z, 0, 0)))["image"][0], expected, atol=1e-6)


@pytest.mark.parametrize("dtype", ["f4", "i2"])
def test_types_without_a_range_of_their_own_need_one(tmp_path: Path, dtype: str) -> None:
    volume = noise("i2", 200).astype(dtype) - 100
    stack = stack_of(tmp_path / "raw", volume.astype(dtype))
    with pytest.raises(DataError, match=r"raw: has voxels of type (float32|int16).*value_range"):
        LoadCropd(crop_size=8)(item(stack))
    image = LoadCropd(crop_size=8, margin=0, value_range=[-100, 100])(item(stack))["image"]
    np.testing.assert_allclose(image[0], (volume[:8, :8, :8] + 100) / 200, atol=1e-6)
    assert LoadCropd(crop_size=8, value_range=[0, 50])(item(stack))["image"].unique()[[0, -1]].tolist() == [0, 1]


@pytest.mark.parametrize("value", [np.nan, np.inf], ids=["nan", "inf"])
def test_voxels_that_are_no_numbers_name_their_slice(tmp_path: Path, value: float) -> None:
    volume = noise("u1", 255).astype(np.float32)
    volume[3, 5, 5] = value
    stack = stack_of(tmp_path / "raw", volume)
    with pytest.raises(DataError, match=r"4\.tif: has voxels that are NaN or infinite"):
        LoadCropd(crop_size=12, margin=2, value_range=[0, 255])(item(stack))
    volume[3, 5, 5], volume[19, 0, 0] = 0, value
    stack = stack_of(tmp_path / "other" / "raw", volume)
    with pytest.raises(DataError, match=r"20\.tif: has voxels that are NaN or infinite"):
        LoadCropd(crop_size=12, percentiles=[1, 99])(item(stack))


def test_equal_percentiles_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has the value 7 at both percentiles 1 and 99"):
        LoadCropd(crop_size=8, percentiles=[1, 99])(item(stack_of(tmp_path / "raw", np.full(SHAPE, 7, np.uint8))))


@pytest.mark.parametrize(
    "settings",
    [
        {"percentiles": [1, 99], "value_range": [0, 1]},
        {"percentiles": [99, 1]},
        {"percentiles": [0, 101]},
        {"value_range": [5]},
        {"value_range": "01"},
        {"crop_size": 0},
        {"crop_size": [80, 80]},
        {"margin": -1},
    ],
    ids=str,
)
def test_wrong_settings_are_config_errors(settings) -> None:
    with pytest.raises(ConfigError):
        LoadCropd(**settings)
    with pytest.raises(ConfigError, match="'half'"):
        ScaleUnitd(scaling="half")


def test_the_mask_follows_the_image_and_clears_the_background_at_the_end(tmp_path: Path) -> None:
    volume, inside = noise("u1", 254) + 1, noise("u1", 1)
    stack = stack_of(tmp_path / "raw", volume)
    mask = stack_of(tmp_path / "mask", inside * np.uint8(200), compression="lzw")
    loaded = LoadCropd(crop_size=16, margin=2)(item(stack, mask=mask))
    assert loaded["mask"].dtype == torch.float32
    np.testing.assert_array_equal(loaded["mask"][0], inside[2:14, 2:14, 2:14])
    moved = RandFlipd(["image", "mask"], prob=1.0, spatial_axis=2)(loaded)
    cleared = ClearBackgroundd()(moved)
    assert "mask" not in cleared
    expected = (volume * inside)[2:14, 2:14, 2:14][..., ::-1] / 255
    np.testing.assert_allclose(np.asarray(cleared["image"][0]), expected, rtol=1e-6)
    assert ClearBackgroundd()({"image": stack}) == {"image": stack}


def test_scaling_clips_and_stretches() -> None:
    image = torch.tensor([-0.5, 0.0, 0.25, 1.0, 1.5])
    assert ScaleUnitd(scaling="unit")({"image": image})["image"].tolist() == [0, 0, 0.25, 1, 1]
    assert ScaleUnitd()({"image": image})["image"].tolist() == [-1, -1, -0.5, 1, 1]


def test_what_is_kept_in_memory_changes_neither_description_nor_pickle(tmp_path: Path) -> None:
    load = LoadCropd(crop_size=8)
    before = plain_settings(load)
    load(item(stack_of(tmp_path / "raw", noise("u1", 255), compression="lzw")))
    assert load.cache.nbytes > 0
    assert plain_settings(load) == before
    assert len(pickle.loads(pickle.dumps(load)).cache) == 0
    assert plain_settings(LoadCropd(crop_size=8, margin=1)) != before


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("cached", [False, True], ids=["no cache", "cache"])
def test_crops_go_through_dataset_and_loader(tmp_path: Path, workers: int, cached: bool) -> None:
    volume = noise("u1", 255)
    stack = stack_of(tmp_path / "raw", volume, compression="lzw")
    mask = stack_of(tmp_path / "mask", np.ones(SHAPE, np.uint8))
    items = [item(stack, (8 * z, 8, 0), mask=mask, label=z) for z in (0, 1)] * 2
    dataset = PreparedDataset(items, [LoadCropd(crop_size=8, margin=0)], tmp_path / "cache" if cached else None)
    for _ in range(2):
        first, second = DataLoader(dataset, batch_size=2, num_workers=workers)
        np.testing.assert_allclose(first["image"][1, 0], volume[8:16, 8:16, :8] / 255, rtol=1e-6)
        assert torch.equal(first["image"], second["image"])
        assert first["mask"].min() == 1
        assert first["label"].tolist() == [0, 1]
        assert first["crop_z"].tolist() == [0, 8]
        assert first["case"] == ["1", "1"]
    assert len(list((tmp_path / "cache").glob("*.pt")) if cached else [1, 1]) == 2


def test_a_damaged_slice_is_named_through_the_dataset(tmp_path: Path) -> None:
    stack = stack_of(tmp_path / "raw", noise("u1", 255))
    stack.path(3).unlink()
    with pytest.raises(DataError, match=r"4\.tif: file not found"):
        PreparedDataset([item(stack)], [LoadCropd(crop_size=8, margin=0)])[0]
