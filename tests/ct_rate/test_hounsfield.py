"""Hounsfield units and orientation: whatever the file says, the network gets the same."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from ct_helpers import LPS, chest, save_ct
from hypothesis import given
from hypothesis import strategies as st
from monai.transforms import Spacing

from monai_ext.ct_rate import LoadChestCTd
from monai_ext.ct_rate.chest_ct import read_chest_ct
from monai_ext.ct_rate.hounsfield import window
from monai_ext.errors import DataError


@pytest.mark.parametrize(
    ("header", "stored_as", "listed"),
    [
        ((1.0, -1024.0), (1.0, -1024.0), None),
        ((1.0, -1024.0), (1.0, -1024.0), (1.0, -1024.0)),
        (None, (1.0, -8192.0), (1.0, -8192.0)),
        (None, (1.0, 0.0), None),
        ((1.0, 0.0), (1.0, -1024.0), (1.0, -1024.0)),
    ],
    ids=["header", "both", "table", "neither", "empty header"],
)
def test_slope_and_intercept_are_applied_once(tmp_path: Path, header, stored_as, listed) -> None:
    path = save_ct(tmp_path / "a.nii.gz", header=header, stored_as=stored_as)
    np.testing.assert_array_equal(read_chest_ct(path, listed).hounsfield(), chest())


def test_the_window_is_fixed() -> None:
    values = np.array([-3024, -1000, -300, 400, 3000], np.int16)
    np.testing.assert_allclose(window(values), [0, 0, 0.5, 1, 1])
    assert window(values).dtype == np.float32


def turned(
    array: np.ndarray, axes: tuple[int, int, int], flips: tuple[bool, bool, bool]
) -> tuple[np.ndarray, np.ndarray]:
    """The same patient in another order of axes: array in (X, Y, Z) of LPS, and the affine that makes up for it."""
    affine = LPS.copy()
    for axis, flip in enumerate(flips):
        if flip:
            affine[:3, 3] += affine[:3, axis] * (array.shape[axis] - 1)
            affine[:3, axis] *= -1
            array = np.flip(array, axis)
    return array.transpose(axes), affine[:, [*axes, 3]]


@given(
    axes=st.permutations([0, 1, 2]).map(tuple),
    flips=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    tilt=st.floats(-0.4, 0.4),
)
def test_any_order_of_axes_and_any_tilt_give_the_same_frame(tmp_path_factory, axes, flips, tilt) -> None:
    volume = chest((9, 12, 14), (2, 7))
    array, affine = turned(volume.transpose(2, 1, 0), axes, flips)
    c, s = np.cos(tilt), np.sin(tilt)
    affine = np.array([[1, 0, 0, 0], [0, c, -s, 0], [0, s, c, 0], [0, 0, 0, 1]]) @ affine
    path = tmp_path_factory.mktemp("turned") / "a.nii"
    nib.save(nib.Nifti1Image(np.ascontiguousarray(array), affine), path)
    ct = read_chest_ct(path)
    np.testing.assert_array_equal(ct.hounsfield(), volume)
    np.testing.assert_allclose(ct.spacing, (3, 2, 2), rtol=1e-5)
    # z runs to the head, y to the back, x to the left
    assert ct.affine[2, 0] > 0 > ct.affine[1, 1]
    assert ct.affine[0, 2] < 0


def test_the_affine_still_says_where_each_voxel_is(tmp_path: Path) -> None:
    volume = chest((9, 12, 14), (2, 7))
    array, affine = turned(volume.transpose(2, 1, 0), (2, 0, 1), (True, False, True))
    nib.save(nib.Nifti1Image(np.ascontiguousarray(array), affine), tmp_path / "a.nii.gz")
    ct = read_chest_ct(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(ct.affine @ [3, 4, 5, 1], LPS @ [5, 4, 3, 1], atol=1e-5)


def test_a_volume_is_channel_first_with_spacing_of_the_table_over_that_of_the_header(tmp_path: Path) -> None:
    path = save_ct(tmp_path / "a.nii.gz")
    image = LoadChestCTd("image")({"image": str(path), "spacing": (1.5, 0.7, 0.8)})["image"]
    assert image.shape == (1, 20, 32, 32)
    assert image.dtype == torch.float32
    np.testing.assert_allclose(image.numpy()[0], window(chest()))
    np.testing.assert_allclose(image.pixdim, (1.5, 0.7, 0.8), rtol=1e-6)
    image = LoadChestCTd("image")({"image": str(path)})["image"]
    np.testing.assert_allclose(image.pixdim, (3, 2, 2), rtol=1e-6)


def test_monai_s_spacing_understands_the_volume_s_axes(tmp_path: Path) -> None:
    image = LoadChestCTd("image")({"image": str(save_ct(tmp_path / "a.nii.gz"))})["image"]
    fine = Spacing((1.5, 1.0, 2.0))(image)
    assert fine.shape == (1, 39, 63, 32)
    np.testing.assert_allclose(fine.numpy()[:, ::2, ::2], image.numpy(), atol=1e-5)


def damaged(path: Path) -> Path:
    save_ct(path)
    path.write_bytes(path.read_bytes()[:-2000])
    return path


def not_finite(path: Path) -> Path:
    array = chest().transpose(2, 1, 0).astype(np.float32)
    array[3, 3, 3] = np.nan
    nib.save(nib.Nifti1Image(array, LPS), path)
    return path


def four_d(path: Path) -> Path:
    nib.save(nib.Nifti1Image(np.stack([chest()] * 2, -1), LPS), path)
    return path


def without_geometry(path: Path) -> Path:
    image = nib.Nifti1Image(chest(), None)
    image.header.set_sform(np.zeros((4, 4)), code=1)
    nib.save(image, path)
    return path


def text(path: Path) -> Path:
    path.write_text("<html>404 not found</html>")
    return path


def empty(path: Path) -> Path:
    path.touch()
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (damaged, "truncated"),
        (not_finite, "has 1 of 20480 voxels that are NaN or infinite"),
        (four_d, "expected one 3-D volume, got 4 dimensions"),
        (without_geometry, "no usable geometry"),
        (text, "not gzip-compressed"),
        (empty, "is empty"),
        (lambda path: path, "file not found"),
    ],
    ids=["truncated", "nan", "4-D", "affine", "text", "empty", "missing"],
)
def test_bad_files_are_named_with_the_reason(tmp_path: Path, make, message: str) -> None:
    path = make(tmp_path / "bad.nii.gz")
    with pytest.raises(DataError, match=message) as caught:
        read_chest_ct(path)
    assert caught.value.path == path
