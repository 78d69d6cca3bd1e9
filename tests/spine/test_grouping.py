"""Which DICOM files are one series, where exports and anonymisers got the ids wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest

from monai_ext.data.problems import Problem
from monai_ext.spine import Series, find_series


def edit(path: Path, **tags) -> None:
    data = pydicom.dcmread(path)
    for name, value in tags.items():
        setattr(data, name, value)
    data.save_as(path)


def found_in(folder: Path) -> tuple[list[Series], list[Problem]]:
    """Each file is part of a series, or of a problem; and no id is shown."""
    series, problems = find_series(folder)
    files = {str(file) for one in series for file in one.files} | {file for one in problems for file in one.files}
    assert files == {str(path) for path in folder.rglob("*") if path.is_file()}
    assert "SECRET" not in repr(problems) + repr(series)
    return series, problems


@pytest.mark.parametrize("tag", ["SeriesInstanceUID", "PatientID"])
def test_slices_with_their_own_id_are_joined_and_that_is_noted(dicom, tmp_path, tag, voxels) -> None:
    for number, path in enumerate(dicom(directions="LPS")):
        edit(path, **{tag: f"1.2.{number}" if tag == "SeriesInstanceUID" else f"SECRET-{number}"})
    (series,), (note,) = found_in(tmp_path / "data")
    assert series.name == "ann/t2"
    assert np.array_equal(series.read().voxels, voxels)
    assert (note.severity, note.code) == ("note", "joined")
    assert f"have their own {tag}; they are read as one series" in note.message


def test_slices_that_share_neither_are_not_joined_but_reported(dicom, tmp_path) -> None:
    for number, path in enumerate(dicom()):
        edit(path, SeriesInstanceUID=f"1.2.{number}", PatientID=f"SECRET-{number}")
    series, (problem,) = found_in(tmp_path / "data")
    assert [len(one.files) for one in series] == [1] * 6
    assert (problem.severity, problem.code) == ("warning", "joined")
    assert "own SeriesInstanceUID and PatientID; they aren't joined" in problem.message


def test_slices_that_are_no_even_stack_are_not_joined_but_reported(dicom, tmp_path) -> None:
    files = dicom()
    files.pop(2).unlink()
    for number, path in enumerate(files):
        edit(path, SeriesInstanceUID=f"1.2.{number}")
    series, (problem,) = found_in(tmp_path / "data")
    assert len(series) == 5
    assert problem.severity == "warning"
    assert "lies 6.00 mm after" in problem.message


def test_series_of_one_slice_each_with_other_numbers_stay_apart(dicom, tmp_path) -> None:
    for number, path in enumerate(dicom()):
        edit(path, SeriesInstanceUID=f"1.2.{number}", SeriesNumber=number)
    series, problems = found_in(tmp_path / "data")
    assert (len(series), problems) == (6, [])


def test_several_patients_in_one_series_are_reported(dicom, tmp_path) -> None:
    for path in dicom()[:3]:
        edit(path, PatientID="SECRET2")
    series, (problem,) = found_in(tmp_path / "data")
    assert [len(one.files) for one in series] == [3, 3]
    assert (problem.severity, problem.code) == ("warning", "joined")
    assert "files of one SeriesInstanceUID have 2 PatientIDs" in problem.message


def test_copies_of_files_are_read_once(dicom, tmp_path, voxels) -> None:
    dicom(directions="LPS")
    shutil.copytree(tmp_path / "data/ann/t2", tmp_path / "data/ann/again")
    (series,), notes = found_in(tmp_path / "data")
    assert np.array_equal(series.read().voxels, voxels)
    assert {(note.severity, note.code) for note in notes} == {("note", "copies")}
    assert len(notes) == 6


def test_two_files_of_one_instance_that_differ_are_a_problem(dicom, tmp_path) -> None:
    path = dicom()[2]
    shutil.copy(path, path.with_name("other"))
    edit(path.with_name("other"), WindowCenter=3)
    series, (problem,) = found_in(tmp_path / "data")
    assert series == []
    assert "lies at the same position as" in problem.message


def test_echoes_and_types_of_the_image_are_volumes_of_their_own(dicom, tmp_path, voxels) -> None:
    dicom(directions="LPS")
    shutil.copytree(tmp_path / "data/ann/t2", tmp_path / "data/ann/t2/phase")
    for echo, folder in ((10, "t2"), (20, "t2/phase")):
        for path in (tmp_path / "data/ann" / folder).iterdir():
            if path.is_file():
                pixels = pydicom.dcmread(path).pixel_array + echo
                edit(path, EchoTime=echo, SOPInstanceUID=f"1.2.{echo}.{path.name[2:].lstrip('0')}")
                edit(path, PixelData=pixels.tobytes())
    series, problems = found_in(tmp_path / "data")
    assert problems == []
    assert [one.name for one in series] == ["ann/t2", "ann/t2_phase"]
    for one, echo in zip(series, (10, 20), strict=True):
        assert np.array_equal(one.read().voxels, voxels + echo)


def test_a_series_whose_slices_name_several_types_stays_one(dicom, tmp_path, voxels) -> None:
    for path in dicom(directions="LPS")[:2]:
        edit(path, ImageType=["ORIGINAL", "PRIMARY", "M", "NORM"])
    (series,), problems = found_in(tmp_path / "data")
    assert problems == []
    assert np.array_equal(series.read().voxels, voxels)
