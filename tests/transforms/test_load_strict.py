"""Loaders that other programs recognise, and whose errors reach the user."""

import numpy as np
import pytest
import torch
from monai.transforms import LoadImaged

from monai_ext.ct_rate import LoadChestd
from monai_ext.data.volumes import read_channels
from monai_ext.errors import DataError
from monai_ext.spine import LoadSeriesd
from monai_ext.transforms import IntegersToUnitd, LoadCropd, LoadVolumed


@pytest.fixture
def volume(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.random.default_rng(0).random((3, 4, 5), np.float32))
    return path


@pytest.mark.parametrize("loader", [LoadVolumed, LoadChestd, LoadSeriesd, LoadCropd])
def test_is_recognised_as_a_loader_and_names_the_file_that_is_missing(loader, tmp_path):
    load = loader("image")
    assert isinstance(load, LoadImaged)
    with pytest.raises(DataError, match=r"nothing\.nii\.gz: file not found"):
        load({"image": str(tmp_path / "nothing.nii.gz")})


def test_a_file_of_another_kind_is_named_not_tried_by_the_readers_of_monai(tmp_path):
    (tmp_path / "a.txt").write_text("no volume")
    with pytest.raises(DataError, match=r"a\.txt: is not a volume this program reads"):
        LoadVolumed("image")({"image": str(tmp_path / "a.txt")})


def test_channels_are_read_as_the_function_reads_them(volume):
    found = LoadVolumed("image")({"image": [str(volume), str(volume)]})["image"]
    expected = read_channels([volume, volume])
    assert torch.equal(found.as_tensor(), expected.as_tensor())
    assert torch.equal(found.affine, expected.affine)
    assert found.meta["filename_or_obj"] == str(volume)


def test_the_metadata_stay_with_the_image_whatever_a_program_sets(volume):
    load = LoadVolumed("image")
    load._loader.image_only = False  # as MONAI Label does
    assert load({"image": str(volume)}).keys() == {"image"}


def test_a_crop_of_a_whole_image_is_its_centre_with_zeros_beyond(tmp_path):
    import nibabel as nib

    values = np.arange(4 * 8 * 6, dtype=np.uint8).reshape(4, 8, 6)
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii.gz")
    image = LoadCropd(crop_size=6, margin=1)({"image": str(tmp_path / "a.nii.gz")})["image"]
    torch.testing.assert_close(image[0].as_tensor(), torch.tensor(values[:, 2:6, 1:5].T / 255, dtype=torch.float32))
    larger = LoadCropd(crop_size=8, margin=1)({"image": str(tmp_path / "a.nii.gz")})["image"]
    assert larger.shape == (1, 6, 6, 6)
    assert not larger[0, :, :, 4:].any()


@pytest.mark.parametrize(("dtype", "largest"), [(torch.uint8, 255), (torch.uint16, 65535)])
def test_unsigned_integers_become_0_to_1_and_floats_stay(dtype, largest):
    image = torch.tensor([[0, largest]]).to(dtype)
    found = IntegersToUnitd()({"image": image})["image"]
    assert found.tolist() == [[0, 1]]
    assert IntegersToUnitd()({"image": found})["image"] is found


def test_signed_integers_are_refused():
    with pytest.raises(DataError, match="image has voxels of type int16, whose range isn't known"):
        IntegersToUnitd()({"image": torch.zeros(1, 2, dtype=torch.int16)})
