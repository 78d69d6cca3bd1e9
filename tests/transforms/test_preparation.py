from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor

from monai_ext.brats.demo import SIZES, make_subject
from monai_ext.errors import ConfigError, DataError
from monai_ext.transforms import CheckFinited, CorrectBiasField, CubePad, LoadVolumed, is_nonzero

RECIPE = {
    "image_size": [48, 48, 48],
    "bias_correction": False,
    "pad_to_cube": False,
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "monai_ext.transforms.LoadVolumed", "keys": "image"},
            {"_target_": "monai_ext.transforms.CheckFinited", "keys": "image", "policy": "reject"},
            {"_target_": "monai_ext.transforms.CorrectBiasFieldd", "keys": "image", "enabled": "@bias_correction"},
            {
                "_target_": "Orientationd",
                "keys": "image",
                "axcodes": "RAS",
                "labels": [["L", "R"], ["P", "A"], ["I", "S"]],
            },
            {"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": True, "channel_wise": True},
            {
                "_target_": "CropForegroundd",
                "keys": "image",
                "source_key": "image",
                "select_fn": {"_target_": "monai_ext.transforms.is_nonzero", "_mode_": "callable"},
                "margin": 10,
                "start_coord_key": None,
                "end_coord_key": None,
            },
            {"_target_": "monai_ext.transforms.CubePadd", "keys": "image", "enabled": "@pad_to_cube"},
            {"_target_": "Resized", "keys": "image", "spatial_size": "@image_size", "mode": "trilinear"},
        ],
    },
    "augmentation": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "RandFlipd", "keys": "image", "prob": 0.5, "spatial_axis": 0},
            {"_target_": "RandFlipd", "keys": "image", "prob": 0.5, "spatial_axis": 1},
            {"_target_": "RandFlipd", "keys": "image", "prob": 0.5, "spatial_axis": 2},
            {
                "_target_": "RandRotated",
                "keys": "image",
                "prob": 0.6,
                "range_x": 0.2,
                "range_y": 0.2,
                "range_z": 0.2,
                "padding_mode": "zeros",
            },
            {
                "_target_": "RandZoomd",
                "keys": "image",
                "prob": 0.6,
                "min_zoom": 0.92,
                "max_zoom": 1.08,
                "mode": "trilinear",
                "padding_mode": "constant",
            },
            {"_target_": "RandScaleIntensityd", "keys": "image", "prob": 0.5, "factors": 0.1},
            {"_target_": "RandStdShiftIntensityd", "keys": "image", "prob": 0.5, "factors": 0.1, "nonzero": True},
        ],
    },
}


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> dict:
    geometry = SIZES["small"]
    folder = tmp_path_factory.mktemp("subject")
    paths = []
    for name, array in make_subject(np.random.default_rng(0), 1, geometry).items():
        paths.append(str(folder / f"{name}.nii.gz"))
        nib.save(nib.Nifti1Image(array, geometry.affine), paths[-1])
    return {"case": "one", "image": paths[:4], "label": 1}


def parse(key: str, **knobs):
    parser = ConfigParser({**RECIPE, **knobs})
    return parser.get_parsed_content(key)


def test_recipe_normalises_the_brain_and_leaves_the_background_zero(subject: dict) -> None:
    image = parse("preprocessing")(subject)["image"]
    assert image.shape == (4, 48, 48, 48)
    assert image.dtype == torch.float32
    # the margin of 10 voxels is at least 5 after resizing, and interpolation reaches one voxel
    border = torch.ones(48, 48, 48, dtype=torch.bool)
    border[4:-4, 4:-4, 4:-4] = False
    assert image[:, border].abs().max() == 0
    for channel in image:
        brain = channel[channel != 0]
        assert abs(brain.mean()) < 0.15
        assert 0.7 < brain.std() < 1.1


def test_recipe_turns_the_volume_to_right_anterior_superior(subject: dict) -> None:
    flair = nib.load(subject["image"][3])
    expected = nib.as_closest_canonical(flair).get_fdata()
    steps = parse("preprocessing").transforms
    oriented = steps[3](steps[0](subject))["image"]
    np.testing.assert_array_equal(oriented[3].numpy(), expected.astype(np.float32))


def test_padding_to_a_cube_keeps_proportions(subject: dict) -> None:
    stretched = parse("preprocessing")(subject)["image"][3] != 0
    kept = parse("preprocessing", pad_to_cube=True)(subject)["image"][3] != 0
    source = torch.as_tensor(np.asarray(nib.load(subject["image"][3]).dataobj)) != 0

    def extent(mask: torch.Tensor) -> np.ndarray:
        corners = mask.nonzero()
        return (corners.max(0)[0] - corners.min(0)[0] + 1).numpy()

    ratio = extent(kept) / extent(source)
    assert ratio.max() / ratio.min() < 1.1
    ratio = extent(stretched) / extent(source)
    assert ratio.max() / ratio.min() > 1.1


def test_augmentation_changes_the_brain_but_not_the_far_background(subject: dict) -> None:
    image = parse("preprocessing")(subject)["image"]
    augment = parse("augmentation").set_random_state(0)
    results = [augment({"image": image})["image"] for _ in range(5)]
    for result in results:
        assert result.shape == image.shape
        assert torch.isfinite(result).all()
        assert result[:, :2, :2, :2].abs().max() == 0
    assert not torch.equal(results[0], results[1])


def test_load_stacks_modalities_in_order(subject: dict) -> None:
    image = LoadVolumed("image")(subject)["image"]
    for path, channel in zip(subject["image"], image, strict=True):
        np.testing.assert_array_equal(channel.numpy(), np.asarray(nib.load(path).dataobj, dtype=np.float32))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_voxels_are_rejected_or_filled(value: float) -> None:
    image = MetaTensor(torch.ones(1, 2, 2, 2), meta={"filename_or_obj": "folder/x.nii.gz"})
    image[0, 0, 0, 0] = value
    item = {"image": image, "case": "x17"}
    with pytest.raises(DataError, match=r"folder/x\.nii\.gz: case 'x17' has 1 of 8 voxels that are NaN or infinite"):
        CheckFinited("image")(item)
    filled = CheckFinited("image", policy="fill")(item)["image"]
    assert filled.sum() == 7
    assert not torch.isfinite(image).all(), "the input must stay as it was"


def test_blank_channel_is_rejected_and_policies_are_checked() -> None:
    with pytest.raises(DataError, match=r"nothing but zeros in channel \[1\]"):
        CheckFinited("image")({"image": torch.stack([torch.ones(2, 2, 2), torch.zeros(2, 2, 2)])})
    with pytest.raises(ConfigError, match="'ignore'"):
        CheckFinited("image", policy="ignore")


@pytest.mark.slow  # importing ITK
def test_bias_correction_flattens_a_smooth_field() -> None:
    ramp = np.linspace(0.6, 1.4, 48, dtype=np.float32)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 48)] * 3, indexing="ij"))
    ball = np.sqrt((grid**2).sum(0)) < 0.9
    tissue = np.where(np.sqrt((grid**2).sum(0)) < 0.5, 500, 300) * ball
    image = MetaTensor(torch.as_tensor((tissue * ramp[:, None, None])[None], dtype=torch.float32))
    corrected = CorrectBiasField(shrink=3)(image)
    assert isinstance(corrected, MetaTensor)
    assert (corrected[0].numpy()[~ball] == 0).all()

    def spread(volume: torch.Tensor) -> float:
        values = volume[0].numpy()[tissue == 500]
        return float(values.std() / values.mean())

    assert spread(corrected) < 0.1 * spread(image)


def test_switched_off_steps_return_the_same_object() -> None:
    image = torch.ones(1, 2, 3, 4)
    assert CorrectBiasField(enabled=False)(image) is image
    assert CubePad(enabled=False)(image) is image
    with pytest.raises(ValueError, match="shrink must be at least 1, got 0"):
        CorrectBiasField(shrink=0)


def test_cube_pad_centres_and_counts_dark_voxels_as_foreground() -> None:
    padded = CubePad()(torch.ones(2, 2, 3, 4))
    assert padded.shape == (2, 4, 4, 4)
    assert padded[:, 1:3].sum() == 48
    assert is_nonzero(torch.tensor([-1.0, 0.0, 2.0])).tolist() == [True, False, True]


def test_a_volume_without_foreground_is_named():
    from monai_ext.errors import DataError
    from monai_ext.transforms import is_nonzero

    with pytest.raises(DataError, match="has no foreground"):
        is_nonzero(torch.zeros(1, 4, 4, 4))
