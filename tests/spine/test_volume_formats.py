"""Series and masks as laboratories have them: other volume formats, odd geometry, masks that aren't."""

from __future__ import annotations

from pathlib import Path

import itk
import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from spine_files import affine_of

from monai_ext.errors import DataError
from monai_ext.spine import check, find_series, write_like
from monai_ext.spine.load_slice import LoadSliced

VOXELS = np.random.default_rng(0).integers(0, 900, (12, 14, 5)).astype(np.int16)
AFFINE = affine_of("PIR", oblique=9)


def write(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in (".nrrd", ".mha", ".mhd"):
        image = itk.image_from_array(np.ascontiguousarray(VOXELS.T))
        lps = np.diag([-1, -1, 1, 1]) @ AFFINE
        sizes = np.linalg.norm(lps[:3, :3], axis=0)
        image.SetSpacing(sizes.tolist())
        image.SetOrigin(lps[:3, 3].tolist())
        image.SetDirection(itk.matrix_from_array(lps[:3, :3] / sizes))
        itk.imwrite(image, str(path), compression=True)
    else:
        kind = nib.MGHImage if path.suffix == ".mgz" else nib.Nifti1Image
        nib.save(kind(VOXELS, AFFINE), path)
    return path


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha", "a.mhd", "a.mgz", "a.hdr", "a.NII.GZ"])
def test_other_formats_are_series_and_results_lie_on_them(tmp_path: Path, name: str) -> None:
    write(tmp_path / "in/p1/t2" / name)
    series, _ = find_series(tmp_path / "in")
    (one,) = series
    image = one.read()
    np.testing.assert_array_equal(image.voxels, VOXELS)
    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-4)
    assert image.plane == "sagittal"
    written = nib.load(write_like(image, image.slices(), tmp_path / "out.nii.gz"))
    np.testing.assert_array_equal(np.asarray(written.dataobj), VOXELS)
    np.testing.assert_allclose(written.affine, AFFINE, atol=1e-4)


def test_a_header_whose_sform_is_no_geometry_is_noted_and_not_copied(tmp_path: Path) -> None:
    path = tmp_path / "p1/t2/a.nii"
    path.parent.mkdir(parents=True)
    image = nib.Nifti1Image(VOXELS, AFFINE)
    image.set_qform(AFFINE, 1)
    nib.save(image, path)
    content = bytearray(path.read_bytes())
    content[280:328] = bytes(48)  # srow_x, srow_y, srow_z
    path.write_bytes(content)
    (problem,) = check(tmp_path)
    assert (problem.severity, problem.code) == ("warning", "geometry")
    (one,) = find_series(tmp_path)[0]
    written = nib.load(write_like(one.read(), one.read().slices(), tmp_path / "out.nii.gz"))
    np.testing.assert_allclose(written.get_sform(), AFFINE, atol=1e-4)


MASK = np.where(np.random.default_rng(0).random((8, 9)) > 0.5, 255, 0).astype(np.uint8)


def masked(path: Path, image: Image.Image) -> Path:
    for part, picture in (("images", Image.fromarray(np.arange(72, dtype=np.uint8).reshape(8, 9))), ("masks", image)):
        (path / "lesion" / part).mkdir(parents=True)
        name = f"p{0}_0.png" if part == "images" else "p0_0.jpg" if image.mode == "RGB" else "p0_0.png"
        picture.save(path / "lesion" / part / name)
    return path / "lesion" / "masks" / name


PALETTE = Image.fromarray(MASK // 255).convert("P")
PALETTE.putpalette([255, 255, 255, 0, 0, 0])


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (PALETTE, "a mask with a palette"),
        (Image.merge("LA", [Image.new("L", (9, 8)), Image.fromarray(MASK)]), "a mask with transparency"),
        (Image.merge("RGB", [Image.fromarray(MASK)] * 3), "a mask in a lossy format"),
    ],
    ids=["palette", "alpha", "jpeg"],
)
def test_masks_that_may_mean_something_else_are_refused_in_check_and_training(
    tmp_path: Path, image: Image.Image, message: str
) -> None:
    path = masked(tmp_path, image)
    (problem,) = [problem for problem in check(tmp_path) if problem.severity == "error"]
    assert (problem.path, problem.code) == (str(path), "mask-format")
    assert message in problem.message
    with pytest.raises(DataError, match=message):
        LoadSliced("mask", mask_keys="mask")({"mask": str(path)})
    LoadSliced("mask")({"mask": str(path)})  # as an image it is fine


@pytest.mark.parametrize("kind", ["JPEG2000", "WEBP"])
def test_a_mask_that_is_lossy_under_the_name_of_another_format_is_refused(tmp_path: Path, kind: str) -> None:
    Image.fromarray(MASK).save(tmp_path / "m.png", format=kind)
    with pytest.raises(DataError, match=rf"m\.png: is a mask in a lossy format \({kind}\)"):
        LoadSliced("mask", mask_keys="mask")({"mask": str(tmp_path / "m.png")})


def test_a_mask_of_several_values_is_logged_in_training(tmp_path: Path, caplog) -> None:
    Image.fromarray(np.resize([0, 1, 2], (8, 9)).astype(np.uint8)).save(tmp_path / "m.png")
    result = LoadSliced("mask", mask_keys="mask")({"mask": str(tmp_path / "m.png")})
    assert sorted(np.unique(result["mask"])) == [0, 1]
    assert "m.png: has 3 values (0, 1, 2)" in caplog.text
