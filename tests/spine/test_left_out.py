"""What may hold an image is never left out by a mere note: it would look as if everything was done."""

import builtins
import os

import nibabel as nib
import numpy as np
import pytest
from cascade_files import cascade, write_series
from PIL import Image

from monai_ext.data.problems import Problem
from monai_ext.errors import DataError, IncompleteError
from monai_ext.spine import CascadeBatch, check, find_series, image_mask_items, inference_series


def counted(problems: list[Problem]) -> list[tuple[str, str]]:
    return [(os.path.basename(one.path), one.severity) for one in problems if one.severity != "note"]


@pytest.mark.parametrize("name", ["IM0099", "IM0099.dcm", "MR.1.2.840.6"])
def test_a_broken_link_to_a_slice_is_an_error_in_prediction_and_in_training(dicom, tmp_path, name):
    last = dicom("images/ann")[-1]
    last.unlink()
    last.with_name(name).symlink_to(tmp_path / "gone")
    (series,), problems = find_series(tmp_path / "data")
    assert len(series.files) == 5
    assert counted(problems) == [(name, "error")]
    (tmp_path / "data/masks").mkdir()
    with pytest.raises(DataError, match="is it a broken link"):
        image_mask_items(tmp_path / "data")


@pytest.mark.parametrize("name", ["sub-01_T2w.nii.gz", "IM0001"])
def test_the_check_of_a_dataset_lists_more_than_the_first_broken_link(tmp_path, name):
    (tmp_path / "derivatives").mkdir()
    (tmp_path / "ann").mkdir()
    for folder in (tmp_path, tmp_path / "ann"):
        (folder / name).symlink_to(tmp_path / "gone")
    assert [one.path for one in check(tmp_path) if "broken link" in one.message] == [
        str(tmp_path / "ann" / name),
        str(tmp_path / name),
    ]


def test_a_broken_link_to_a_text_is_a_note(dicom, tmp_path):
    (dicom()[0].parent / "notes.json").symlink_to(tmp_path / "gone")
    assert counted(find_series(tmp_path / "data")[1]) == []


def test_a_slice_without_a_suffix_that_cannot_be_read_is_an_error(dicom, tmp_path, monkeypatch):
    files = [path.rename(path.with_suffix("")) for path in dicom()]
    original = builtins.open

    def failing(file, *args, **kwargs):
        if str(file) == str(files[-1]):
            raise OSError(5, "Input/output error")
        return original(file, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", failing)
    assert counted(find_series(tmp_path / "data")[1]) == [(files[-1].name, "error")]


@pytest.mark.parametrize("length", [400, 560], ids=["within its kind", "before its size"])
def test_a_slice_whose_header_is_cut_off_is_an_error(dicom, tmp_path, length):
    path = dicom()[-1]
    path = path.rename(path.with_suffix(""))
    path.write_bytes(path.read_bytes()[:length])
    assert counted(find_series(tmp_path / "data")[1]) == [(path.name, "error")]


def test_voxels_beside_a_volume_that_has_its_own_are_not_part_of_it(tmp_path):
    (tmp_path / "ann").mkdir()
    nib.save(nib.Nifti1Image(np.zeros((3, 4, 5), np.uint8), np.eye(4)), tmp_path / "ann/t2.nii.gz")
    (tmp_path / "ann/t2.img").write_bytes(b"voxels")
    (series,), problems = find_series(tmp_path)
    assert [path.name for path in series.files] == ["t2.nii.gz"]
    assert [problem.files for problem in problems if problem.severity == "warning"] == [(str(tmp_path / "ann/t2.img"),)]


def test_flat_slices_are_not_joined_with_those_of_a_folder_of_their_name(tmp_path):
    (tmp_path / "ann").mkdir()
    for number in range(3):
        Image.new("L", (4, 4)).save(tmp_path / f"ann_{number}.png")
        Image.new("L", (4, 4)).save(tmp_path / f"ann/{number}.png")
    series, _ = find_series(tmp_path)
    assert sorted(len(one.files) for one in series) == [3, 3]
    assert len({one.name for one in series}) == 2


def test_what_lies_beside_the_folder_that_alone_is_read_is_told(tmp_path):
    for name in ("series/ann/t2", "bob/t2", "lesion_7t/images/ann", "reference/ann"):
        write_series(tmp_path / name, "slices", "knee")
    (tmp_path / "demo.json").write_text("{}")
    series, problems = inference_series(tmp_path)
    assert [one.name for one in series] == ["ann/t2"]
    assert [(one.severity, one.files) for one in problems] == [
        ("warning", (str(tmp_path / "bob"),)),
        ("note", (str(tmp_path / "lesion_7t"),)),
        ("note", (str(tmp_path / "reference"),)),
    ]


def test_a_folder_without_series_says_what_prediction_takes(tmp_path):
    with pytest.raises(DataError, match="holds no series; give a folder of series, or one with them in its sub-folder"):
        inference_series(tmp_path)


def test_a_geometry_that_is_guessed_is_in_the_report_and_no_missing_segmentation(tmp_path):
    path = write_series(tmp_path / "data/ann/t2.nii.gz", "nifti")
    volume = nib.load(path)
    header = volume.header.copy()
    header.set_sform(None, 0)
    header.set_qform(None, 0)
    nib.save(nib.Nifti1Image(np.asarray(volume.dataobj), None, header), path)
    found = inference_series(tmp_path / "data")
    report = CascadeBatch(cascade("cord_visible"), *found, tmp_path / "data", tmp_path / "out", previews=False).run()
    assert "left and right may be swapped" in report["series"][0]["notes"][0]


def test_a_second_run_over_a_folder_whose_name_is_no_utf8_replaces_the_first(tmp_path):
    write_series(tmp_path / "data/ann/t2.nii.gz", "nifti", "knee")
    data = os.path.join(os.fsencode(tmp_path), b"caf\xe9")
    os.rename(tmp_path / "data", data)
    for _ in range(2):
        found = inference_series(os.fsdecode(data))
        batch = CascadeBatch(cascade("cord_visible"), *found, os.fsdecode(data), tmp_path / "out", previews=False)
        assert batch.run()["counts"]["refused"] == 1


def test_a_broken_link_ends_in_exit_code_1(dicom, tmp_path):
    dicom()[-1].with_name("IM0099").symlink_to(tmp_path / "gone")
    found = inference_series(tmp_path / "data")
    with pytest.raises(IncompleteError, match="1 other files or folders left out"):
        CascadeBatch(cascade("cord_visible"), *found, tmp_path / "data", tmp_path / "out", previews=False).run()
