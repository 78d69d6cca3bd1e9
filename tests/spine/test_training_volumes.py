"""Volumes as training data: each slice is what inference sees of it, and lies on its mask."""

from __future__ import annotations

import os
from pathlib import Path

import itk
import nibabel as nib
import numpy as np
import pytest
from cascade_files import spine, write_series

from monai_ext import spine as package
from monai_ext.data import PreparedDataset
from monai_ext.errors import ConfigError, DataError
from monai_ext.spine import LoadSliced, check, find_series, image_mask_items, stage_items, write_dicom_seg
from monai_ext.spine.demo_dicom import write_dicom_series
from monai_ext.spine.extraction import extract_slices
from monai_ext.spine.image_mask import image_mask_problems, mask_files

LOAD = LoadSliced(["image", "mask", "cord"], ["mask", "cord"], allow_missing_keys=True)


def save(path: Path, voxels: np.ndarray, affine: np.ndarray, axes: str | None = None) -> Path:
    """Write a volume, with its axes in another order and direction where they are named."""
    path.parent.mkdir(parents=True, exist_ok=True)
    volume = nib.Nifti1Image(np.asarray(voxels, np.int16), affine)
    if axes:
        ends = nib.orientations.axcodes2ornt(axes)
        volume = volume.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(affine), ends))
    nib.save(volume, path)
    return path


def write_bids(root: Path, subjects: int = 5, name: str = "lesion-manual", axes: str | None = None) -> Path:
    image, lesion = spine(oblique=5.0)
    for number in range(1, subjects + 1):
        where = f"sub-{number:02d}/anat/sub-{number:02d}_T2w"
        save(root / f"{where}.nii.gz", image.voxels + number, image.affine)
        save(root / f"derivatives/labels/{where}_{name}.nii.gz", lesion, image.affine, axes)
        save(root / f"derivatives/labels/{where}_seg.nii.gz", image.voxels % 1000 > 400, image.affine, axes)
    return root


def expected(kind: str = "image") -> np.ndarray:
    """Slices in the order of inference."""
    image, lesion = spine(oblique=5.0)
    return (image if kind == "image" else package.SeriesImage(lesion.astype(np.float32), image.affine, 2)).slices()


@pytest.mark.parametrize("axes", [None, "RAS", "IPR", "LSA"])
def test_slices_of_a_volume_are_those_of_inference_and_masks_lie_on_them_whatever_their_axes(tmp_path, axes) -> None:
    items = image_mask_items(write_bids(tmp_path, 1, axes=axes), "lesion")
    assert [item["case"] for item in items] == [f"sub-01/anat/sub-01_T2w/{number:03d}" for number in range(6)]
    assert {item["patient"] for item in items} == {"sub-01"}
    (series,) = (one for one in find_series(tmp_path)[0] if one.files[0].name == "sub-01_T2w.nii.gz")
    loaded = [LOAD(item) for item in items]
    # MONAI makes tensors of numbers in some items of a batch only
    assert not any("slice" in one for one in loaded)
    np.testing.assert_array_equal([one["image"].numpy() for one in loaded], series.read().slices())
    np.testing.assert_array_equal([one["image"].numpy() for one in loaded], expected() + 1)
    np.testing.assert_array_equal([one["mask"].numpy() for one in loaded], expected("mask"))


def test_names_of_bids_and_sct_say_which_mask_is_meant(tmp_path) -> None:
    root = write_bids(tmp_path)
    image, lesion = spine()
    save(root / "sub-09/anat/sub-09_T1w.nii.gz", image.voxels, image.affine)
    save(root / "sub-01/anat/t2.nii.gz", image.voxels, image.affine)
    save(root / "sub-01/anat/t2_lesion.nii.gz", lesion, image.affine)
    save(root / "sub-01/anat/t2_lesion-manual.nii.gz", lesion, image.affine)
    lesions, cords = image_mask_items(root, "lesion_7t"), image_mask_items(root, "cord")
    assert {Path(item["mask"]).name for item in lesions} == {
        *(f"sub-{number:02d}_T2w_lesion-manual.nii.gz" for number in range(1, 6)),
        "t2_lesion-manual.nii.gz",
    }
    assert {Path(item["mask"]).name for item in cords} == {f"sub-{n:02d}_T2w_seg.nii.gz" for n in range(1, 6)}
    assert any("sub-09_T1w.nii.gz): no mask of lesion" in text for text in lesions.left_out)
    with pytest.raises(DataError, match="must have 'cord' or 'lesion' in it"):
        image_mask_items(root, "knee")


def test_a_stage_reads_the_dataset_above_it_where_that_is_one_of_bids_and_finds_the_cords(tmp_path) -> None:
    root = write_bids(tmp_path)
    parts = stage_items(root / "lesion", num_folds=5, cord_dir=root / "cord", structure="lesion")
    items = [item for part in parts.values() for item in part]
    assert len(items) == 30
    assert {Path(item["cord"]).name for item in items} == {f"sub-{n:02d}_T2w_seg.nii.gz" for n in range(1, 6)}
    assert not {item["patient"] for item in parts["train"]} & {item["patient"] for item in parts["val"]}
    assert LOAD(items[3])["cord"].sum() > 0
    visible = stage_items(root / "cord", "visible", ["no_cord", "cord"], structure="cord")
    assert {item["label"] for part in visible.values() for item in part} == {0, 1}


def test_masks_of_a_dataset_are_no_series_to_predict(tmp_path) -> None:
    series, problems = find_series(write_bids(tmp_path, 2))
    assert [one.name for one in series] == ["sub-01/anat", "sub-02/anat"]
    (note,) = problems
    assert (note.severity, len(note.files)) == ("note", 4)


def test_masks_beside_their_images_are_no_series_to_predict(tmp_path) -> None:
    image, lesion = spine()
    for name in ("t2", "t2_lesion", "t2_seg", "t1_seg"):
        save(tmp_path / f"ann/anat/{name}.nii.gz", lesion, image.affine)
    series, (note,) = find_series(tmp_path)
    assert [one.name for one in series] == ["ann/anat_t1_seg", "ann/anat_t2"]  # there is no t1
    assert (note.severity, [Path(file).name for file in note.files]) == ("note", ["t2_lesion.nii.gz", "t2_seg.nii.gz"])


@pytest.mark.parametrize("mask", ["seg", "nifti"])
def test_dicom_series_with_dicom_segmentations_or_nifti_masks(tmp_path, mask) -> None:
    write_series(tmp_path / "images/ann/t2", "dicom")
    (series,), _ = find_series(tmp_path / "images")
    image = series.read()
    lesion = image.slices()[:, 0] > 600
    if mask == "seg":
        (tmp_path / "masks/ann").mkdir(parents=True)
        write_dicom_seg(series, image, lesion, tmp_path / "masks/ann/t2.dcm")
    else:
        save(tmp_path / "masks/ann/t2.nii.gz", image.restore(lesion), image.affine, "RAS")
    items = image_mask_items(tmp_path)
    assert [item["case"] for item in items] == [f"ann/t2/{number:03d}" for number in range(6)]
    loaded = [LOAD(item) for item in items]
    np.testing.assert_array_equal([one["image"].numpy() for one in loaded], image.slices())
    np.testing.assert_array_equal([one["mask"].numpy() for one in loaded], lesion[:, None])


def test_a_dicom_segmentation_that_reaches_beyond_its_image_is_refused(tmp_path) -> None:
    image, lesion = spine()
    for name, first in (("images/ann/t2", 0), ("images/bob/t2", 3)):
        affine = image.affine.copy()
        affine[:3, 3] += first * affine[:3, 2]
        write_dicom_series(tmp_path / name, image.voxels.astype(np.int16), affine, "P", 1)
    series = next(one for one in find_series(tmp_path / "images")[0] if one.name == "ann/t2")
    (tmp_path / "masks/ann").mkdir(parents=True)
    (tmp_path / "masks/bob").mkdir()
    drawn = package.SeriesImage(lesion.astype(np.float32), image.affine, 2).slices()
    write_dicom_seg(series, series.read(), drawn, tmp_path / "masks/ann/t2.dcm")
    assert len(image_mask_problems(tmp_path)[1]) == 1
    (tmp_path / "masks/bob/t2.dcm").write_bytes((tmp_path / "masks/ann/t2.dcm").read_bytes())
    (problem,) = image_mask_problems(tmp_path)[1]
    assert problem.message == "has 20 of its 49 voxels outside of its image; is it that of another series?"


@pytest.mark.parametrize("change", ["shape", "place"])
def test_a_mask_on_another_grid_is_refused_before_the_training_begins(tmp_path, change) -> None:
    image, lesion = spine()
    affine = image.affine.copy()
    if change == "shape":
        lesion = lesion[:-1]
    else:
        affine[0, 3] += 3
    save(tmp_path / "images/ann_t2.nii.gz", image.voxels, image.affine)
    save(tmp_path / "masks/ann_t2.nii.gz", lesion, affine)
    with pytest.raises(DataError, match=r"masks/ann_t2\.nii\.gz: .* draw it on this image, or resample it") as caught:
        image_mask_items(tmp_path)
    assert caught.value.code == "geometry"


def test_all_problems_of_a_folder_are_listed_and_the_other_volumes_are_used(tmp_path) -> None:
    image, lesion = spine()
    for name in ("ann_t2", "bob_t2", "cat_t2", "dan_t2"):
        save(tmp_path / f"images/{name}.nii.gz", image.voxels, image.affine)
        save(tmp_path / f"masks/{name}.nii.gz", lesion, image.affine)
    (tmp_path / "masks/ann_t2.nii.gz").unlink()
    (tmp_path / "masks/bob_t2.nii.gz").write_bytes(b"damaged")
    save(tmp_path / "masks/eve_t2.nii.gz", lesion, image.affine)
    items, problems = image_mask_problems(tmp_path)
    assert {item["patient"] for item in items} == {"cat", "dan"}
    assert sorted(Path(one.path).name for one in problems) == ["ann_t2.nii.gz", "bob_t2.nii.gz", "eve_t2.nii.gz"]


def test_a_volume_in_a_folder_of_a_class_is_all_its_slices(tmp_path) -> None:
    image, _ = spine()
    for name in ("knee", "spine"):
        save(tmp_path / name / "ann/t2.nii.gz", image.voxels, image.affine)
        write_series(tmp_path / name / "bob/t2", "dicom")
    items = package.class_items(tmp_path)
    assert len(items) == 24
    assert {item["patient"] for item in items} == {"ann", "bob"}
    shown = [LOAD(item)["image"].numpy() for item in items if item["case"].startswith("knee/ann/t2/")]
    np.testing.assert_array_equal(shown, image.slices())


@pytest.mark.parametrize("kind", ["folder of DICOM", "voxels beside a header"])
def test_other_voxels_are_prepared_again_though_the_first_file_stays(tmp_path, kind) -> None:
    data = tmp_path / "data"
    write_series(data / "spine/ann/t2", "dicom")
    if kind == "folder of DICOM":
        changed = sorted(write_series(data / "knee/bob/t2", "dicom").iterdir())[2]
    else:
        (data / "knee").mkdir(parents=True)
        itk.imwrite(itk.image_from_array(spine()[0].voxels.T.astype(np.int16)), str(data / "knee/bob.mhd"))
        changed = data / "knee/bob.raw"

    def images() -> list[np.ndarray]:
        found = PreparedDataset(package.class_items(data), [LOAD], tmp_path / "cache")
        return [found[number]["image"].numpy() for number in range(len(found))]

    before = images()
    old = changed.stat().st_mtime_ns - 10**9
    changed.write_bytes(changed.read_bytes()[:-2000] + bytes(2000))
    os.utime(changed, ns=(old, old))
    assert any((one != other).any() for one, other in zip(before, images(), strict=True))


def test_series_of_one_patient_in_a_class_are_no_copies_of_each_other(tmp_path) -> None:
    for name in ("knee/ann/t1", "knee/ann/t2", "spine/bob/t1"):
        write_series(tmp_path / name, "dicom")
    assert len(package.class_items(tmp_path)) == 18


@pytest.mark.parametrize("folder", ["anatomy/{}", "foundation/MR/{}/acl"])
@pytest.mark.parametrize("volume", ["ann_t2.nii.gz", "ann.nii.gz"])
def test_extracted_slices_stay_in_the_class_and_with_the_patient_of_their_volume(tmp_path, folder, volume) -> None:
    image, _ = spine()
    for name in ("knee", "spine"):
        for path in (volume, volume.replace("ann", "bob")):
            save(tmp_path / "data" / folder.format(name) / path, image.voxels, image.affine)
    extract_slices(tmp_path / "data", tmp_path / "slices")
    stage = folder.partition("/")[0]
    direct, extracted = (package.class_items(tmp_path / part / stage) for part in ("data", "slices"))
    known = [{(one["case"], one["patient"], one["label"]) for one in items} for items in (direct, extracted)]
    assert known[0] == known[1]
    assert {patient for _, patient, _ in known[0]} == {"ann", "bob"}


def test_masks_of_a_dataset_that_are_not_read_are_told(tmp_path) -> None:
    root = write_bids(tmp_path, 1)
    image, lesion = spine(oblique=5.0)
    for name in ("labels2/sub-01/anat/sub-01_T2w_lesion-manual", "labels/sub-09/anat/sub-09_T2w_lesion-manual"):
        save(root / f"derivatives/{name}.nii.gz", lesion, image.affine)
    items, problems = image_mask_problems(root, "lesion")
    assert len(items) == 6
    assert [(one.severity, len(one.files), one.message.rpartition(": ")[2]) for one in problems] == [
        ("warning", 1, "masks of images that aren't there"),
        ("note", 1, "further masks of images of which another is read"),
        ("note", 1, "by the names no masks of this stage"),
    ]


@pytest.mark.parametrize("layout", ["bids", "two folders"])
def test_equal_masks_that_storage_keeps_once_belong_to_each_image(tmp_path, layout) -> None:
    image, lesion = spine()
    save(tmp_path / "store.nii.gz", np.zeros_like(lesion), image.affine)
    root = tmp_path / "data"
    images, masks = ("", "derivatives/labels/") if layout == "bids" else ("images/", "masks/")
    for name in ("sub-01", "sub-02"):
        save(root / f"{images}{name}/anat/t2.nii.gz", image.voxels, image.affine)
        mask = root / f"{masks}{name}/anat/t2_lesion.nii.gz"
        mask.parent.mkdir(parents=True)
        mask.symlink_to(tmp_path / "store.nii.gz")
    assert {item["patient"] for item in image_mask_items(root, "lesion")} == {"sub-01", "sub-02"}


def test_a_mask_with_values_that_are_no_numbers_is_refused(tmp_path) -> None:
    image, lesion = spine()
    save(tmp_path / "images/ann_t2.nii.gz", image.voxels, image.affine)
    (tmp_path / "masks").mkdir()
    nib.save(
        nib.Nifti1Image(np.where(lesion, np.nan, 0).astype(np.float32), image.affine),
        tmp_path / "masks/ann_t2.nii.gz",
    )
    with pytest.raises(DataError, match="NaN or infinite"):
        image_mask_items(tmp_path)


def test_slices_that_were_extracted_train_as_the_volumes_do(tmp_path) -> None:
    root = write_bids(tmp_path / "bids", 2)
    count, problems = extract_slices(root, tmp_path / "slices")
    assert (count, [one for one in problems if one.severity == "error"]) == (24, [])
    for stage in ("lesion", "cord"):
        direct = sorted(image_mask_items(root, stage), key=lambda item: item["case"])
        extracted = sorted(image_mask_items(tmp_path / "slices" / stage), key=lambda item: item["case"])
        assert [(one["case"], one["patient"]) for one in direct] == [(one["case"], one["patient"]) for one in extracted]
        for one, other in zip(direct, extracted, strict=True):
            for key in ("image", "mask"):
                np.testing.assert_array_equal(LOAD(one)[key].numpy(), LOAD(other)[key].numpy())
    assert mask_files(tmp_path / "slices/cord").keys() == {item["case"] for item in image_mask_items(root, "lesion")}
    with pytest.raises(ConfigError, match="holds other files"):
        extract_slices(root, tmp_path / "slices")
    with pytest.raises(ConfigError, match="lies in the data"):
        extract_slices(root, root / "slices")


def test_an_extraction_of_nothing_names_the_file_that_is_wrong(tmp_path) -> None:
    root = write_bids(tmp_path / "bids", 1)
    for path in (root / "derivatives/labels").rglob("*.nii.gz"):
        path.write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"sub-01_T2w_\S+\.nii\.gz: "):
        extract_slices(root, tmp_path / "slices")


def test_the_check_looks_at_volumes_as_at_slices(tmp_path) -> None:
    image, lesion = spine()
    for name in ("p1", "p2", "p3", "p4", "p5"):
        save(tmp_path / f"lesion/images/{name}.nii.gz", image.voxels, image.affine)
        save(tmp_path / f"lesion/masks/{name}.nii.gz", lesion, image.affine)
    assert [one for one in check(tmp_path) if one.severity != "note"] == []
    broken = image.voxels.astype(np.float32)
    broken[3, 4, 2] = np.nan
    nib.save(nib.Nifti1Image(broken, image.affine), tmp_path / "lesion/images/p2.nii.gz")
    (tmp_path / "lesion/masks/p3.nii.gz").unlink()
    (tmp_path / "lesion/masks/p4.nii.gz").unlink()
    found = [(Path(one.path).name, one.message[:18]) for one in check(tmp_path) if one.severity == "error"]
    assert found == [
        ("p3.nii.gz", "has no mask of tha"),
        ("p4.nii.gz", "has no mask of tha"),
        ("p2.nii.gz", "1 of 11520 values "),
    ]
