import gzip

import nibabel as nib
import numpy as np
import pytest

from monai_ext.data.volumes_nifti import open_nifti
from monai_ext.data.volumes_zarr import open_volume, stored_chunks, volume_identity
from monai_ext.errors import DataError
from monai_ext.inferers.streaming.reading import voxel_space


def write(path, voxels, slope=None, inter=0.0, kind=nib.Nifti1Image):
    image = kind(voxels, np.diag([0.5, 0.75, 2.0, 1.0]))
    image.header.set_xyzt_units("mm")
    if slope is not None:
        image.header.set_slope_inter(slope, inter)
    nib.save(image, path)
    return path


@pytest.fixture
def voxels():
    return np.random.default_rng(0).integers(-1000, 3000, (5, 6, 7)).astype(np.int16)


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image], ids=["nifti1", "nifti2"])
@pytest.mark.parametrize("dtype", [">i2", "<i2", "u1", "f4", "f8"])
def test_any_part_is_read_as_stored_with_the_axes_z_y_x(tmp_path, voxels, dtype, kind):
    path = write(tmp_path / "a volume.nii", voxels.astype(dtype), kind=kind)
    array = open_volume(path)
    expected = np.asarray(nib.load(path).dataobj).T
    assert array.shape == (7, 6, 5)
    np.testing.assert_array_equal(array[...], expected)
    np.testing.assert_array_equal(array[2:5, 1:4, ::2], expected[2:5, 1:4, ::2])
    assert len(stored_chunks(array)) == 7


def test_slope_and_intercept_are_applied(tmp_path, voxels):
    path = write(tmp_path / "scaled.nii", voxels, slope=0.5, inter=-10)
    array = open_nifti(path)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array[...], np.asarray(nib.load(path).dataobj, np.float32).T)


def test_the_size_of_a_voxel_is_known(tmp_path, voxels):
    space = voxel_space(write(tmp_path / "a.nii", voxels))
    assert space.scale == (2.0, 0.75, 0.5)
    assert space.units == ("millimeter",) * 3


def test_a_changed_file_has_another_fingerprint(tmp_path, voxels):
    before = volume_identity(write(tmp_path / "a.nii", voxels))
    assert before == volume_identity(tmp_path / "a.nii")
    assert before != volume_identity(write(tmp_path / "a.nii", voxels[:-1]))


def compressed(path):
    path.with_suffix(".nii.gz").write_bytes(gzip.compress(path.read_bytes()))
    return path.with_suffix(".nii.gz")


def truncated(path):
    path.write_bytes(path.read_bytes()[:-10])
    return path


def nonsense(path):
    path.write_bytes(b"nothing of an image")
    return path


def four(path):
    return write(path, np.zeros((3, 3, 3, 2), np.uint8))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (compressed, r"a\.nii\.gz: is compressed.*gunzip -k"),
        (truncated, "is truncated"),
        (nonsense, "is not a NIfTI image"),
        (four, "one 3-D volume, got 4 dim"),
        (lambda path: path.with_name("absent.nii"), r"absent\.nii: file not found"),
    ],
    ids=["compressed", "truncated", "nonsense", "4-d", "absent"],
)
def test_what_cannot_be_read_is_named(tmp_path, voxels, damage, message):
    with pytest.raises(DataError, match=message):
        open_volume(damage(write(tmp_path / "a.nii", voxels)))
