"""Volumes in other formats than `.nii.gz`, and headers whose geometry is odd, through the bundle's own doors."""

from __future__ import annotations

import logging
from pathlib import Path

import itk
import nibabel as nib
import numpy as np
import pytest

from monai_ext.brats import data as brats
from monai_ext.data.problems import warn_once
from monai_ext.transforms import LoadVolumed

VOXELS = np.arange(1, 337).reshape(6, 7, 8).astype(np.int16)
AFFINE = np.diag([-1.0, -2.0, 3.0, 1.0])


def write(path: Path) -> Path:
    if path.suffix.lower() in (".nrrd", ".mha", ".mhd"):
        image = itk.image_from_array(np.ascontiguousarray(VOXELS.T))
        image.SetSpacing([1.0, 2.0, 3.0])  # directions are LPS: the identity is AFFINE
        itk.imwrite(image, str(path), compression=True)
    else:
        kind = nib.MGHImage if path.suffix == ".mgz" else nib.Nifti1Image
        nib.save(kind(VOXELS, AFFINE), path)
    return path


@pytest.mark.parametrize(
    "name", ["a_flair.nrrd", "a_flair.mha", "a_flair.mhd", "a_flair.mgz", "a_flair.hdr", "a.NII.GZ"]
)
def test_other_formats_are_graded_as_nifti_is(tmp_path: Path, name: str) -> None:
    write(tmp_path / name)
    (item,) = brats.inference_items(tmp_path)
    assert item["case"] == "a"
    assert len(item["stamp"]) == (2 if name.endswith((".mhd", ".hdr")) else 1)
    image = LoadVolumed("image")(item)["image"]
    np.testing.assert_array_equal(image[0], VOXELS)
    np.testing.assert_allclose(image.affine, AFFINE)


def test_new_voxels_beside_an_old_header_change_the_stamp(tmp_path: Path) -> None:
    write(tmp_path / "a.hdr")
    before = brats.inference_items(tmp_path)
    image = tmp_path / "a.img"
    image.write_bytes(image.read_bytes() + bytes(1))
    assert brats.inference_items(tmp_path)[0]["stamp"] != before[0]["stamp"]


def subject(root: Path, modality: str) -> Path:
    case = "Brats18_HGG_0_1"
    return root / "MICCAI_BraTS_2018_Data_Training" / "HGG" / case / f"{case}_{modality}.nii.gz"


def test_check_lists_faults_of_the_geometry_with_their_code(brats_dir: Path, caplog) -> None:
    for modality, rows, qform in (("t1", 0, 1), ("t1ce", 0, 0), ("t2", None, 0)):
        image = nib.load(subject(brats_dir, modality))
        header = image.header.copy()
        header["sform_code"], header["qform_code"] = (1 if rows == 0 else 0), qform
        header["srow_x"] = header["srow_y"] = header["srow_z"] = 0
        content = header.binaryblock + bytes(4) + np.asarray(image.dataobj).tobytes(order="F")
        subject(brats_dir, modality).unlink()
        subject(brats_dir, modality).with_suffix("").write_bytes(content)
    warn_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        problems = brats.check(brats_dir)
    found = {(Path(p.path).name.removeprefix("Brats18_HGG_0_1_"), p.severity) for p in problems if p.code == "geometry"}
    assert found == {
        ("t1.nii", "warning"),
        ("t1ce.nii", "error"),
        ("t2.nii", "warning"),
        ("t2.nii", "error"),
    }  # whose grid is another
    assert "its qform is used" in caplog.text
    assert "doesn't say which way its axes run" in caplog.text
