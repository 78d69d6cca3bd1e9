"""A series as DICOM and as a converter's NIfTI: the same slices and the same masks."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from cascade_files import cascade, spine
from spine_files import affine_of

from monai_ext.spine import SeriesImage, find_series, write_like
from monai_ext.spine.demo_dicom import write_dicom_series

SAGITTAL, AXIAL, CORONAL = "PIL", "LPS", "LIP"


def read_both(root: Path, voxels: np.ndarray, affine: np.ndarray) -> list[SeriesImage]:
    """DICOM, and NIfTI as dcm2niix 1.0.20260724 writes 3-D acquisitions: axes in the order of the world, ``dim_info``
    left at what it was before (1 read, 2 phase, 3 slice).
    """
    write_dicom_series(root / "a/dicom", voxels, affine, "P1")
    volume = nib.as_closest_canonical(nib.Nifti1Image(voxels, affine))
    volume.header.set_dim_info(freq=1, phase=0, slice=2)
    nib.save(volume, root / "a/nifti.nii.gz")
    found, problems = find_series(root)
    assert ([one.kind for one in found], problems) == (["dicom", "nifti"], [])
    return [one.read() for one in found]


@pytest.mark.parametrize("oblique", [0, 20])
@pytest.mark.parametrize(
    ("directions", "sizes", "plane"),
    [
        (SAGITTAL, (1, 1, 1), "sagittal"),
        (SAGITTAL, (0.94, 0.94, 1.2), "sagittal"),
        (SAGITTAL, (0.8, 0.8, 3), "sagittal"),
        (AXIAL, (0.5, 0.5, 3), "axial"),
        (AXIAL, (1, 1, 1.2), "sagittal"),
        (AXIAL, (1, 1, 1), "sagittal"),
        (AXIAL, (1.5, 1.5, 1), "sagittal"),
        (CORONAL, (0.8, 0.8, 2), "coronal"),
        (CORONAL, (1, 1, 1.1), "sagittal"),
    ],
    ids=lambda value: value if isinstance(value, str) else "x".join(map(str, value)),
)
def test_dicom_and_its_conversion_give_the_same_slices(tmp_path, voxels, directions, sizes, plane, oblique) -> None:
    dicom, nifti = read_both(tmp_path, voxels, affine_of(directions, sizes, oblique))
    assert (dicom.plane, nifti.plane) == (plane, plane)
    assert np.array_equal(dicom.slices(), nifti.slices())
    np.testing.assert_allclose(dicom.spacing, nifti.spacing, rtol=1e-5)


def test_a_single_slice_is_one_whatever_its_thickness(tmp_path, voxels) -> None:
    dicom, nifti = read_both(tmp_path, voxels[:, :, :1], affine_of(AXIAL, (1, 1, 1)))
    assert dicom.slices().shape == nifti.slices().shape == (1, 1, 16, 12)


@pytest.mark.parametrize("edge", [3.0, 1.0], ids=["thick", "as thick as a pixel"])
def test_dicom_and_its_conversion_give_the_same_masks(tmp_path, edge) -> None:
    image, _ = spine(directions="LIP" if edge == 1 else "PIR", oblique=9.0)
    affine = image.affine @ np.diag([1 / 0.8, 1 / 1.25, edge / 3, 1])
    both = read_both(tmp_path, image.voxels.astype(np.int16), affine)
    masks = []
    for number, one in enumerate(both):
        findings = cascade("anatomy", "location_view", "sequence", "cord_visible", min_slices=0)(one).findings
        path = write_like(one, findings.lesion, tmp_path / f"{number}.nii")
        masks.append(nib.as_closest_canonical(nib.load(path)))
        assert findings.lesion.any()
    np.testing.assert_allclose(masks[0].affine, masks[1].affine, atol=1e-4)
    assert np.array_equal(*[np.asarray(mask.dataobj) for mask in masks])
