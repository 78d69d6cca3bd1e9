"""Multi-frame MR: the geometry of ITK and highdicom, and the masks of the same series with one slice per file."""

from __future__ import annotations

import copy
from pathlib import Path

import highdicom as hd
import itk
import nibabel as nib
import numpy as np
import pydicom
import pytest
from cascade_files import cascade, spine
from enhanced import item, write_enhanced
from spine_files import affine_of

from monai_ext.spine import Series, find_series, write_dicom_seg, write_like
from monai_ext.spine.demo_dicom import write_dicom_series

VENDORS = ["siemens", "ge", "philips"]
# whole numbers after any of Philips' scales
VOXELS = 4 * np.random.default_rng(0).permutation(12 * 16 * 6).reshape(12, 16, 6).astype(np.int16)


def the_series(folder: Path) -> Series:
    (series,), problems = find_series(folder)
    assert problems == []
    return series


def in_world(voxels: np.ndarray, affine: np.ndarray) -> nib.Nifti1Image:
    return nib.as_closest_canonical(nib.Nifti1Image(np.asarray(voxels, np.float32), affine))


def assert_same(first: nib.Nifti1Image, second: nib.Nifti1Image) -> None:
    np.testing.assert_allclose(first.affine, second.affine, atol=1e-4)
    assert np.array_equal(np.asarray(first.dataobj), np.asarray(second.dataobj))


def from_itk(path: str | list[str]) -> nib.Nifti1Image:
    image = itk.imread(path, itk.F)
    affine = np.eye(4)
    affine[:3, :3] = itk.array_from_matrix(image.GetDirection()) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return in_world(itk.array_from_image(image).T, np.diag([-1, -1, 1, 1]) @ affine)


@pytest.mark.parametrize(("directions", "oblique"), [("PIL", 0.0), ("LPS", 20.0), ("RIA", 9.0)])
class TestGeometry:
    @pytest.mark.parametrize("vendor", VENDORS)
    def test_is_that_of_highdicom_and_of_single_frames(self, tmp_path, vendor, directions, oblique) -> None:
        affine = affine_of(directions, oblique=oblique)
        path = write_enhanced(tmp_path / "multi/ann/t2.dcm", VOXELS, affine, vendor)
        multi = the_series(tmp_path / "multi").read()
        write_dicom_series(tmp_path / "single/ann/t2", VOXELS, affine, "SECRET1", 3)
        single = the_series(tmp_path / "single").read()
        assert np.array_equal(multi.voxels, single.voxels)
        np.testing.assert_allclose(multi.affine, single.affine, atol=1e-6)
        assert (multi.slice_axis, multi.plane) == (single.slice_axis, single.plane)
        volume = hd.imread(path).get_volume(apply_real_world_transform=False, dtype=np.float64)
        lps = np.diag([-1, -1, 1, 1]) @ volume.affine
        assert_same(in_world(multi.voxels, multi.affine), in_world(volume.array, lps))

    @pytest.mark.parametrize("vendor", ["siemens", "ge"])  # ITK 5.4 reads no directions by frame
    def test_is_that_of_itk(self, tmp_path, vendor, directions, oblique) -> None:
        path = write_enhanced(tmp_path / "ann/t2.dcm", VOXELS, affine_of(directions, oblique=oblique), vendor)
        image = the_series(tmp_path).read()
        assert_same(in_world(image.voxels, image.affine), from_itk(str(path)))

    def test_of_single_frames_is_that_of_itk(self, tmp_path, directions, oblique) -> None:
        affine = affine_of(directions, oblique=oblique)
        write_dicom_series(tmp_path / "ann/t2", VOXELS, affine, "SECRET1", 3)
        image = the_series(tmp_path).read()
        names = itk.GDCMSeriesFileNames.New(Directory=str(tmp_path / "ann/t2")).GetInputFileNames()
        assert_same(in_world(image.voxels, image.affine), from_itk(list(names)))


@pytest.mark.parametrize("vendor", VENDORS)
def test_multi_frame_and_single_frames_of_a_phantom_give_the_same_masks(tmp_path, vendor) -> None:
    phantom, _ = spine(oblique=9.0)
    voxels = phantom.voxels.astype(np.int16)
    write_enhanced(tmp_path / "multi/ann/t2.dcm", voxels, phantom.affine, vendor)
    write_dicom_series(tmp_path / "single/ann/t2", voxels, phantom.affine, "SECRET1", 3)
    masks = []
    for kind in ("multi", "single"):
        image = the_series(tmp_path / kind).read()
        result = cascade("cord_visible")(image)
        assert result.admitted
        masks.append(nib.load(write_like(image, result.findings.lesion, tmp_path / f"{kind}.nii")))
    assert np.asarray(masks[0].dataobj).any()
    assert_same(*masks)


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_segmentation_marks_the_frames_of_the_lesion(tmp_path, vendor) -> None:
    write_enhanced(tmp_path / "in/ann/t2.dcm", VOXELS, affine_of("LPS", oblique=20), vendor)
    series = the_series(tmp_path / "in")
    image = series.read()
    mask = image.slices()[:, 0] % 8 > 0
    mask[2] = False
    volume = hd.seg.segread(write_dicom_seg(series, image, mask, tmp_path / "seg.dcm")).get_volume(
        combine_segments=True
    )
    written = in_world(volume.array, np.diag([-1, -1, 1, 1]) @ volume.affine)
    assert_same(written, in_world(image.restore(mask), image.affine))


def test_series_of_several_multi_frame_files_are_one_volume(tmp_path) -> None:
    affine, step = affine_of("PIL"), np.eye(4)
    step[2, 3] = 3
    write_enhanced(tmp_path / "ann/a.dcm", VOXELS[:, :, :3], affine)
    write_enhanced(tmp_path / "ann/b.dcm", VOXELS[:, :, 3:], affine @ step)
    series = the_series(tmp_path)
    assert len(series.files) == 2
    image = series.read()
    assert_same(in_world(image.voxels, image.affine), in_world(VOXELS, affine))


def test_volumes_of_one_file_are_series_of_their_own(tmp_path) -> None:
    """Magnitude and phase in turns, as Philips writes them."""
    path = write_enhanced(tmp_path / "in/ann/t2.dcm", VOXELS, affine_of("LPS"), "ge")
    data = pydicom.dcmread(path)
    frames, pixels, kinds = list(data.PerFrameFunctionalGroupsSequence), data.pixel_array, ("M", "P")
    data.NumberOfFrames = 12
    del data.SharedFunctionalGroupsSequence[0].MRImageFrameTypeSequence
    data.PerFrameFunctionalGroupsSequence = [copy.deepcopy(frame) for frame in frames for _ in kinds]
    for number, frame in enumerate(data.PerFrameFunctionalGroupsSequence):
        frame.MRImageFrameTypeSequence = item(FrameType=["ORIGINAL", "PRIMARY", kinds[number % 2], "NONE"])
    data.PixelData = np.stack([pixels, -pixels], axis=1).tobytes()
    data.save_as(path)
    both, problems = find_series(tmp_path / "in")
    assert problems == []
    for series, sign in zip(both, (1, -1), strict=True):
        image = series.read()
        assert np.array_equal(image.voxels, sign * VOXELS)
        mask = image.slices()[:, 0] % 8 > 0
        written = write_dicom_seg(series, image, mask, tmp_path / "seg.dcm")
        volume = hd.seg.segread(written).get_volume(combine_segments=True)
        assert_same(
            in_world(volume.array, np.diag([-1, -1, 1, 1]) @ volume.affine), in_world(image.restore(mask), image.affine)
        )


def read_problem(folder: Path) -> str:
    series, (problem,) = find_series(folder)
    assert series == []
    return problem.message


def test_frames_that_are_no_volume_are_named(tmp_path) -> None:
    path = write_enhanced(tmp_path / "ann/t2.dcm", VOXELS, affine_of("PIL"))
    data = pydicom.dcmread(path)
    frames = data.PerFrameFunctionalGroupsSequence
    place = frames[1].PlanePositionSequence[0]
    given = place.ImagePositionPatient
    place.ImagePositionPatient = frames[0].PlanePositionSequence[0].ImagePositionPatient
    data.save_as(path)
    assert read_problem(tmp_path).startswith("its frame 2 lies at the same position as frame 1 of t2.dcm")
    place.ImagePositionPatient = given
    del frames[3].PlanePositionSequence
    data.save_as(path)
    assert "its frame 4 has no ImagePositionPatient" in read_problem(tmp_path)
    del frames[3]
    data.save_as(path)
    assert "holds 6 frames (multi-frame DICOM), but its functional groups give the places of 5;" in read_problem(
        tmp_path
    )
