from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
import tifffile
from PIL import Image
from spine_files import affine_of, write_nifti

from monai_ext.errors import ConfigError, DataError
from monai_ext.spine import find_series
from monai_ext.spine.dicom_warnings import EACH_KIND_ONCE

ORIENTATIONS = ["RAS", "LPS", "PIL", "ASR", "RIP"]


def edit(path: Path, **tags) -> None:
    """Change tags of a DICOM file; None takes one away."""
    data = pydicom.dcmread(path)
    for name, value in tags.items():
        if value is None:
            del data[name]
        else:
            setattr(data, name, value)
    data.save_as(path)


def write_png(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def names(folder: Path) -> list[str]:
    found, problems = find_series(folder)
    assert problems == []
    return [one.name for one in found]


def the_problem(folder: Path) -> tuple[str, str]:
    """Path and message of the only problem, while a good series beside it is found."""
    found, problems = find_series(folder)
    assert [one.name for one in found] == ["good/t1"]
    (problem,) = problems
    return problem.path, problem.message


class TestDicom:
    @pytest.mark.parametrize("oblique", [0.0, 17.0], ids=["straight", "oblique"])
    @pytest.mark.parametrize("directions", ORIENTATIONS)
    def test_has_voxels_in_order_of_position_and_the_affine(self, dicom, voxels, tmp_path, directions, oblique) -> None:
        files = dicom(directions=directions, oblique=oblique)
        (series,), problems = find_series(tmp_path / "data")
        assert problems == []
        image = series.read()
        expected = affine_of(directions, oblique=oblique)
        if series.files != tuple(files):  # the normal of the slices may point against the order of the voxels
            assert series.files == tuple(files[::-1])
            voxels = voxels[:, :, ::-1]
            expected[:3, 3] += 5 * expected[:3, 2]
            expected[:3, 2] *= -1
        assert np.array_equal(image.voxels, voxels)
        np.testing.assert_allclose(image.affine, expected, atol=1e-6)
        assert image.slice_axis == 2

    @pytest.mark.parametrize("oblique", [0.0, 17.0], ids=["straight", "oblique"])
    @pytest.mark.parametrize("directions", ORIENTATIONS)
    def test_gives_the_slices_that_nifti_of_the_same_series_gives(
        self, dicom, voxels, tmp_path, directions, oblique
    ) -> None:
        dicom(directions=directions, oblique=oblique)
        # as converters do: other order of the axes, other signs, the same places
        affine = affine_of(directions, oblique=oblique)
        flipped = affine.copy()
        flipped[:3, 3] += 11 * affine[:3, 0]
        flipped[:3, 0] *= -1
        swapped, turned = flipped[:, [2, 0, 1, 3]], voxels[::-1].transpose(2, 0, 1)
        write_nifti(tmp_path / "data/ann/converted.nii.gz", turned, swapped)
        nifti, series = find_series(tmp_path / "data")[0]
        assert (nifti.kind, series.kind) == ("nifti", "dicom")
        a, b = nifti.read(), series.read()
        assert np.array_equal(a.slices(), b.slices())
        assert a.plane == b.plane
        np.testing.assert_allclose(a.spacing, b.spacing, atol=1e-5)
        assert a.voxel_volume == pytest.approx(b.voxel_volume) == pytest.approx(0.7 * 0.8 * 3.0)

    def test_without_the_packages_for_it_says_what_to_install(self, dicom, tmp_path, monkeypatch) -> None:
        dicom()
        monkeypatch.setattr("monai_ext.spine.dicom.find_spec", lambda package: None)
        with pytest.raises(ConfigError, match=r"pip install 'monai-ext\[dicom\]'"):
            find_series(tmp_path)

    def test_rescales_and_inverts_as_the_header_says(self, dicom, tmp_path) -> None:
        files = dicom()
        (series,), _ = find_series(tmp_path / "data")
        plain = series.read().voxels
        for path in files:
            edit(path, RescaleSlope=2.0, RescaleIntercept=-5.0)
        assert np.array_equal(series.read().voxels, plain * 2 - 5)
        for path in files:
            edit(path, PhotometricInterpretation="MONOCHROME1", RescaleSlope=1.0, RescaleIntercept=0.0)
        assert np.array_equal(series.read().voxels, plain.max() - plain)

    def test_one_slice_is_a_series_as_thick_as_its_header_says(self, dicom, tmp_path) -> None:
        for path in dicom()[1:]:
            path.unlink()
        (series,), _ = find_series(tmp_path / "data")
        image = series.read()
        assert image.slices().shape == (1, 1, 16, 12)
        np.testing.assert_allclose(image.spacing, (3.0, 0.8, 0.7), atol=1e-6)

    def test_several_series_of_one_folder_and_patients_with_the_same_uids_never_mix(self, dicom, tmp_path) -> None:
        dicom("ann", number=1)
        dicom("bob", number=1)
        shutil.copytree(tmp_path / "data/ann", tmp_path / "data/bob/more")
        for index, path in enumerate(sorted((tmp_path / "data/bob/more").iterdir())):
            path.rename(path.with_name(f"x{index}"))
            edit(path.with_name(f"x{index}"), SeriesInstanceUID="1.2.3")
        assert names(tmp_path / "data") == ["ann/series_001", "bob/more", "bob/series_001"]

    def test_flat_files_are_numbered_and_no_id_is_shown(self, dicom, tmp_path) -> None:
        for number, patient in enumerate(("SECRET1", "SECRET2"), start=1):
            for path in dicom(f"tmp{number}", patient=patient, number=7):
                path.rename(tmp_path / "data" / f"{patient[-1]}_{path.name}.dcm")
            (tmp_path / "data" / f"tmp{number}").rmdir()
        found, _ = find_series(tmp_path / "data")
        assert [one.name for one in found] == ["patient_001/series_007", "patient_002/series_007"]
        assert [len(one.files) for one in found] == [6, 6]
        edit(found[0].files[2], Rows=3)
        _, problems = find_series(tmp_path / "data")
        assert "SECRET" not in repr(problems) + repr(found)

    def test_numbers_never_take_the_name_of_a_folder(self, dicom, tmp_path) -> None:
        dicom("patient_001", patient="SECRET1")
        for path in dicom("tmp", patient="SECRET2"):
            path.rename(tmp_path / "data" / path.name)
        assert names(tmp_path / "data") == ["patient_001/series_003", "patient_001_flat/series_003"]

    def test_patients_in_one_folder_are_told_apart(self, dicom, tmp_path) -> None:
        dicom("dump/a", patient="SECRET1")
        dicom("dump/b", patient="SECRET2")
        assert names(tmp_path / "data") == ["dump_001/a", "dump_002/b"]

    def test_files_of_a_series_may_lie_in_several_folders_of_a_patient(self, dicom, tmp_path) -> None:
        files = dicom("ann/a")
        (tmp_path / "data/ann/b").mkdir()
        for path in files[::2]:
            path.rename(tmp_path / "data/ann/b" / path.name)
        (series,), problems = find_series(tmp_path / "data")
        assert (series.patient, len(series.files), problems) == ("ann", 6, [])

    @pytest.mark.parametrize(
        ("tags", "message"),
        [
            ({"Rows": 8}, "has 8 x 12 pixels, but .* has 16 x 12; split the series by shape"),
            ({"ImagePositionPatient": None}, "has no ImagePositionPatient, so its position is unknown"),
            ({"PixelSpacing": None}, "has no PixelSpacing"),
            ({"PixelSpacing": [0, 1]}, "has a PixelSpacing that isn't above 0"),
            ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "isn't two unit vectors at right angles"),
            ({"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}, "has another ImageOrientationPatient than"),
            ({"PixelSpacing": [2, 2]}, "has another PixelSpacing than"),
            ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "is a localizer"),
            ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]}, "is a mosaic of slices"),
        ],
        ids=[
            "shape",
            "position",
            "spacing",
            "no-spacing",
            "no-normal",
            "orientation",
            "other-spacing",
            "localizer",
            "mosaic",
        ],
    )
    def test_a_series_that_is_no_volume_is_a_problem_and_others_go_on(self, dicom, tmp_path, tags, message) -> None:
        dicom("good/t1", patient="SECRET2", number=1)
        bad = dicom()[3]
        edit(bad, **tags)
        path, found = the_problem(tmp_path / "data")
        assert Path(path).parent == bad.parent
        with pytest.raises(DataError, match=message):
            raise DataError(found)

    def test_two_slices_at_one_position_are_a_problem(self, dicom, tmp_path) -> None:
        dicom("good/t1", patient="SECRET2", number=1)
        files = dicom()
        edit(files[2], ImagePositionPatient=pydicom.dcmread(files[3]).ImagePositionPatient)
        assert "lies at the same position as IM" in the_problem(tmp_path / "data")[1]

    def test_a_missing_slice_is_a_problem(self, dicom, tmp_path) -> None:
        dicom("good/t1", patient="SECRET2", number=1)
        dicom()[2].unlink()
        assert "lies 6.00 mm after" in the_problem(tmp_path / "data")[1]

    def test_slices_beside_the_line_of_the_others_are_a_problem(self, dicom, tmp_path) -> None:
        dicom("good/t1", patient="SECRET2", number=1)
        path = dicom(directions="LPS")[3]
        data = pydicom.dcmread(path)
        data.ImagePositionPatient[0] += 5
        data.save_as(path)
        assert "lies 5.00 mm beside the line from IM" in the_problem(tmp_path / "data")[1]

    @pytest.mark.parametrize("tag", [b"\x28\x00\x30\x00DS", b"\x28\x00\x10\x00US"], ids=["spacing", "rows"])
    def test_a_tag_of_an_unknown_kind_is_a_problem_and_is_not_quoted(self, dicom, tmp_path, tag) -> None:
        dicom("good/t1", patient="SECRET2", number=1)
        for path in dicom():
            path.write_bytes(path.read_bytes().replace(tag, tag[:4] + b'Q"').replace(b"SECRET1", b"SECRET3"))
        found, problems = find_series(tmp_path / "data")
        assert [one.name for one in found] == ["good/t1"]
        assert len(problems) == 6
        assert all("has a damaged header" in one.message for one in problems)
        assert "SECRET" not in repr(problems)

    def test_a_tag_that_is_missing_is_named(self, dicom, tmp_path) -> None:
        for path in dicom():
            data = pydicom.dcmread(path)
            del data.SeriesInstanceUID
            data.save_as(path)
        assert "has a damaged header (no SeriesInstanceUID)" in find_series(tmp_path / "data")[1][0].message

    @pytest.mark.parametrize("content", [b"", b"\0" * 128 + b"DICM" + b"\x08\0", b"text"], ids=["empty", "cut", "text"])
    def test_an_unreadable_file_is_a_problem(self, dicom, tmp_path, content) -> None:
        dicom("good/t1", patient="SECRET2", number=1)
        bad = tmp_path / "data/bad/t2/1.dcm"
        bad.parent.mkdir(parents=True)
        bad.write_bytes(content)
        found, problems = find_series(tmp_path / "data")
        assert [one.name for one in found] == ["good/t1"]
        assert [problem.path for problem in problems] == [str(bad)]

    def test_truncated_pixels_are_an_error_that_names_the_file(self, dicom, tmp_path) -> None:
        path = dicom()[1]
        path.write_bytes(path.read_bytes()[:-40])
        (series,), _ = find_series(tmp_path / "data")
        with pytest.raises(DataError, match=f"{path.name}: its pixels can't be read"):
            series.read()

    @pytest.mark.parametrize(
        ("tags", "message"),
        [
            ({"PhotometricInterpretation": "PALETTE COLOR"}, "is a palette image, whose numbers are no intensities"),
            ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, "is a colour image"),
        ],
        ids=["palette", "colour"],
    )
    def test_numbers_that_are_no_intensities_are_an_error(self, dicom, tmp_path, tags, message) -> None:
        for path in dicom():
            edit(path, **tags)
        (series,), _ = find_series(tmp_path / "data")
        with pytest.raises(DataError, match=message):
            series.read()

    def test_pydicom_warns_once_and_without_values(self, dicom, tmp_path, caplog, recwarn) -> None:
        for number, path in enumerate(dicom()):
            content = path.read_bytes()
            place = content.index(b"1", content.index(b"\x08\x00\x18\x00UI") + 8)
            path.write_bytes(content[:place] + b"0%d.SECRET" % number + content[place + 9 :])
        EACH_KIND_ONCE.said.clear()
        (series,), _ = find_series(tmp_path / "data")
        series.read()
        (record,) = [record for record in caplog.records if record.name == "pydicom"]
        assert record.getMessage() == "DICOM: Invalid value for VR UI (said once, whatever the number of files)"
        assert not [entry for entry in recwarn if "SECRET" in str(entry.message)]

    def test_what_is_no_image_is_left_out(self, dicom, tmp_path) -> None:
        path = dicom()[0]
        data = pydicom.dcmread(path)
        data.Modality, data.SeriesInstanceUID = "SEG", "1.2.3"
        data.save_as(path.with_name("seg.dcm"))
        (tmp_path / "data/ann/t2/notes.txt").write_text("not an image")
        found, (note,) = find_series(tmp_path / "data")
        assert [one.name for one in found] == ["ann/t2"]
        assert {Path(file).name for file in note.files} == {"seg.dcm", "notes.txt"}
        assert note.severity == "note"


class TestNifti:
    def test_suffixes_in_any_case_and_links(self, tmp_path, voxels) -> None:
        write_nifti(tmp_path / "ann/t2.nii.gz", voxels, affine_of("PIL")).rename(tmp_path / "ann/t2.NII.GZ")
        (tmp_path / "ann/loop").symlink_to(tmp_path)
        (tmp_path / "bob").symlink_to(tmp_path / "ann")
        (tmp_path / "cat.nii.gz").symlink_to(tmp_path / "ann/t2.NII.GZ")
        (series,), notes = find_series(tmp_path)
        assert (series.name, series.read().voxels.shape) == ("ann/t2", voxels.shape)
        assert {Path(note.path).name for note in notes} == {"loop", "bob", "cat.nii.gz"}
        assert {note.code for note in notes} == {"same-file"}

    def test_a_volume_beside_its_compressed_copy_is_a_problem_and_no_series(self, tmp_path, voxels) -> None:
        for name in ("ann/t2.nii", "ann/t2.nii.gz", "ann/t1.nii"):
            write_nifti(tmp_path / name, voxels, affine_of("PIL"))
        found, (problem,) = find_series(tmp_path)
        assert [one.name for one in found] == ["ann/t1"]
        assert (problem.code, problem.severity) == ("copies", "error")
        assert "t2.nii" in problem.message

    def test_layouts(self, tmp_path, voxels) -> None:
        for file in ("flat.nii.gz", "ann/t1.nii", "ann/t2/image.nii.gz", "bob/t2/a.nii.gz", "bob/t2/b.nii.gz"):
            write_nifti(tmp_path / file, voxels, affine_of("PIL"))
        assert names(tmp_path) == ["ann/t1", "ann/t2", "bob/t2_a", "bob/t2_b", "flat/flat"]

    @pytest.mark.parametrize(
        ("directions", "sizes", "plane", "spacing"),
        [
            ("RAS", (1, 1, 3), "axial", (3, 1, 1)),
            ("RAS", (3, 1, 2), "sagittal", (3, 2, 1)),
            ("LIA", (1, 1, 4), "coronal", (4, 1, 1)),
            ("PSR", (1, 1, 1), "sagittal", (1, 1, 1)),
            ("SRA", (1, 1, 1), "sagittal", (1, 1, 1)),
        ],
        ids=["axial", "sagittal", "coronal", "isotropic", "isotropic-middle"],
    )
    def test_slices_are_taken_along_the_longest_step_else_from_left_to_right(
        self, tmp_path, voxels, directions, sizes, plane, spacing
    ) -> None:
        write_nifti(tmp_path / "a.nii.gz", voxels, affine_of(directions, sizes))
        image = find_series(tmp_path)[0][0].read()
        assert image.plane == plane
        np.testing.assert_allclose(image.spacing, spacing, atol=1e-5)

    @pytest.mark.parametrize("directions", ["RAS", "LPS", "PIL", "SRA"])
    @pytest.mark.parametrize(
        ("sizes", "plane", "y", "x"),
        [((5, 1, 1), 0, "I", "P"), ((1, 5, 1), 1, "I", "L"), ((1, 1, 5), 2, "P", "L")],
        ids=["sagittal", "coronal", "axial"],
    )
    def test_slices_are_turned_one_way(self, tmp_path, directions, sizes, plane, y, x) -> None:
        """Each voxel holds its place along a world axis: it must grow along Y and X as said."""
        order = [next(i for i, pair in enumerate(("LR", "PA", "IS")) if letter in pair) for letter in directions]
        affine = affine_of(directions, [sizes[axis] for axis in order])
        grid = np.stack(np.meshgrid(*map(np.arange, (5, 6, 7)), indexing="ij"), axis=-1)
        place = grid @ affine[:3, :3].T
        for letter, axis in ((y, 2), (x, 3)):
            world = next(i for i, pair in enumerate(("LR", "PA", "IS")) if letter in pair)
            write_nifti(tmp_path / "a.nii", place[..., world].astype(np.float32), affine)
            slices = find_series(tmp_path)[0][0].read().slices()
            steps = np.diff(slices, axis=axis)
            assert (steps < 0).all() if letter in "LPI" else (steps > 0).all()

    def test_unreadable_files_are_errors_when_read(self, tmp_path) -> None:
        (tmp_path / "bad.nii").write_bytes(b"text")
        with pytest.raises(DataError, match=r"bad\.nii: is not a NIfTI image"):
            find_series(tmp_path)[0][0].read()


class TestSlices:
    def test_a_folder_is_a_series_in_natural_order(self, tmp_path) -> None:
        for number in (1, 2, 10):
            write_png(tmp_path / f"ann/t2/s{number}.png", np.full((4, 6), number, np.uint8))
        (series,), _ = find_series(tmp_path)
        image = series.read()
        assert series.name == "ann/t2"
        assert image.slices().shape == (3, 1, 4, 6)
        assert image.slices()[:, 0, 0, 0].tolist() == [1, 2, 10]
        assert (image.plane, image.has_geometry, image.voxel_volume) == ("unknown", False, 1.0)

    def test_rows_and_columns_stay_and_16_bits_too(self, tmp_path) -> None:
        picture = np.arange(24, dtype=np.uint16).reshape(4, 6) * 1000
        write_png(tmp_path / "png/a.png", picture)
        (tmp_path / "tif").mkdir()
        tifffile.imwrite(tmp_path / "tif/a.tif", picture)
        write_png(tmp_path / "rgb/a.jpg", np.repeat(np.arange(0, 240, 10, dtype=np.uint8).reshape(4, 6, 1), 3, axis=2))
        png, rgb, tif = (one.read().slices()[0, 0] for one in find_series(tmp_path)[0])
        assert np.array_equal(png, picture)
        assert np.array_equal(tif, picture)
        assert rgb.shape == (4, 6)

    def test_flat_files_are_told_apart_by_their_names(self, tmp_path) -> None:
        for name in ("ann_t2_1", "ann_t2_2", "bob-007", "12"):
            write_png(tmp_path / f"{name}.png", np.zeros((4, 4), np.uint8))
        assert names(tmp_path) == ["ann_t2/ann_t2", "bob/bob", "slices/slices"]

    def test_mixed_shapes_and_damaged_files_are_errors_that_name_the_file(self, tmp_path) -> None:
        write_png(tmp_path / "a/1.png", np.zeros((4, 6), np.uint8))
        write_png(tmp_path / "a/2.png", np.zeros((6, 4), np.uint8))
        write_png(tmp_path / "a/3.png", np.zeros((6, 4), np.uint8))
        (tmp_path / "b").mkdir()
        (tmp_path / "b/1.png").write_bytes(b"text")
        mixed, damaged = find_series(tmp_path)[0]
        with pytest.raises(DataError, match=r"1\.png: has 4 x 6 pixels, but of the same series 2 others have 6 x 4"):
            mixed.read()
        with pytest.raises(DataError, match=r"b/1\.png: can't be read"):
            damaged.read()


def test_equal_names_of_one_patient_get_numbers(dicom, tmp_path, voxels) -> None:
    dicom("ann/t2")
    write_nifti(tmp_path / "data/ann/t2.nii.gz", voxels, affine_of("PIL"))
    write_nifti(tmp_path / "data/ann/t2_1.nii.gz", voxels, affine_of("PIL"))
    assert names(tmp_path / "data") == ["ann/t2_1", "ann/t2_2", "ann/t2_3"]


def test_a_missing_folder_is_an_error(tmp_path) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        find_series(tmp_path / "nothing")
