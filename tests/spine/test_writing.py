from __future__ import annotations

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image
from spine_files import affine_of, write_nifti

from monai_ext.errors import ConfigError, DataError
from monai_ext.spine import Series, find_series, write_dicom_seg, write_like
from monai_ext.spine.demo_dicom import write_dicom_series

GEOMETRIES = [("RAS", 0.0), ("LPS", 0.0), ("PIL", 0.0), ("ASR", 17.0), ("SRA", 17.0)]
IDS = [f"{directions}-{oblique:g}" for directions, oblique in GEOMETRIES]


def only(folder) -> Series:
    (series,), problems = find_series(folder)
    assert problems == []
    return series


def blob(shape: tuple[int, ...]) -> np.ndarray:
    """A mask (N, Y, X) without any symmetry."""
    mask = np.zeros(shape, bool)
    mask[1, 2:5, 1:3] = mask[2, 2:9, 2] = mask[3, 2, 1:8] = True
    return mask


@pytest.mark.parametrize(("directions", "oblique"), GEOMETRIES, ids=IDS)
@pytest.mark.parametrize("kind", ["mask", "probability"])
def test_nifti_comes_back_with_exactly_the_input_s_geometry(tmp_path, voxels, directions, oblique, kind) -> None:
    source = write_nifti(tmp_path / "in/a.nii.gz", voxels, affine_of(directions, oblique=oblique))
    image = only(source.parent).read()
    slices = image.slices() if kind == "probability" else image.slices() % 2 > 0
    written = nib.load(write_like(image, slices, tmp_path / "out.nii.gz"))
    given = nib.load(source)
    assert np.array_equal(written.affine, given.affine)
    assert written.header.get_zooms() == given.header.get_zooms()
    assert nib.aff2axcodes(written.affine) == nib.aff2axcodes(given.affine)
    assert written.get_data_dtype() == (np.float32 if kind == "probability" else np.uint8)
    expected = voxels if kind == "probability" else voxels % 2
    assert np.array_equal(np.asarray(written.dataobj), expected)


def test_a_quaternion_alone_is_kept_as_it_is_and_text_is_not(tmp_path, voxels) -> None:
    given = nib.Nifti1Image(voxels, None)
    given.set_qform(affine_of("ASR", oblique=17.0), code=1)
    given.set_sform(None, code=0)
    given.header["descrip"] = b"SECRET"
    given.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"SECRET"))
    nib.save(given, tmp_path / "a.nii")
    image = only(tmp_path).read()
    path = write_like(image, blob(image.slices()[:, 0].shape), tmp_path / "out.nii")
    written = nib.load(path)
    assert np.array_equal(written.affine, nib.load(tmp_path / "a.nii").affine)
    assert (int(written.header["qform_code"]), int(written.header["sform_code"])) == (1, 0)
    assert b"SECRET" not in path.read_bytes()


@pytest.mark.parametrize(("directions", "oblique"), GEOMETRIES, ids=IDS)
def test_dicom_and_nifti_of_one_series_give_the_same_mask_at_the_same_place(
    dicom, tmp_path, voxels, directions, oblique
) -> None:
    dicom(directions=directions, oblique=oblique)
    affine = affine_of(directions, oblique=oblique)
    write_nifti(tmp_path / "nifti/a.nii.gz", voxels, affine)
    masks = []
    for number, folder in enumerate(("data", "nifti")):
        image = only(tmp_path / folder).read()
        written = nib.load(write_like(image, blob((6, *image.slices().shape[2:])), tmp_path / f"{number}.nii.gz"))
        places = nib.affines.apply_affine(written.affine, np.argwhere(np.asarray(written.dataobj)))
        masks.append(places[np.lexsort(places.round(2).T)])
    np.testing.assert_allclose(*masks, atol=1e-3)


def test_a_sheared_stack_gets_no_qform(tmp_path, voxels) -> None:
    affine = affine_of("LPS")
    affine[1, 2] = 1.0
    write_dicom_series(tmp_path / "in/ann/t2", voxels, affine, "SECRET1")
    image = only(tmp_path / "in").read()
    written = nib.load(write_like(image, image.slices(), tmp_path / "out.nii"))
    assert (int(written.header["qform_code"]), int(written.header["sform_code"])) == (0, 1)
    np.testing.assert_allclose(written.affine, affine, atol=1e-5)


def test_slices_without_geometry_come_back_as_they_were(tmp_path) -> None:
    pictures = np.random.default_rng(0).integers(0, 255, (3, 4, 6), dtype=np.uint8)
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    image = only(tmp_path).read()
    written = nib.load(write_like(image, image.slices(), tmp_path / "out.nii.gz"))
    assert np.array_equal(np.asarray(written.dataobj), pictures.transpose(2, 1, 0))
    assert int(written.header["sform_code"]) == 2


@pytest.mark.parametrize(
    ("given", "stored"),
    [(bool, np.uint8), (np.uint8, np.uint8), (np.int64, np.int32), (np.float64, np.float32)],
    ids=["bool", "uint8", "int64", "float64"],
)
def test_types_that_few_programs_read_are_not_written(tmp_path, voxels, given, stored) -> None:
    write_nifti(tmp_path / "a.nii", voxels, affine_of("RAS"))
    image = only(tmp_path).read()
    mask = blob((6, 16, 12))
    written = nib.load(write_like(image, mask.astype(given), tmp_path / "out.nii"))
    assert written.get_data_dtype() == stored
    assert int(np.asarray(written.dataobj).sum()) == int(mask.sum())


def test_other_shapes_are_an_error(tmp_path, voxels) -> None:
    write_nifti(tmp_path / "a.nii", voxels, affine_of("RAS"))
    image = only(tmp_path).read()
    with pytest.raises(ValueError, match=r"slices must have the shape \(6, 16, 12\) of the series, got \(6, 12, 16\)"):
        write_like(image, np.zeros((6, 12, 16)), tmp_path / "out.nii")


class TestDicomSeg:
    @pytest.mark.parametrize(("directions", "oblique"), GEOMETRIES, ids=IDS)
    def test_lies_where_the_nifti_of_the_mask_lies(self, dicom, tmp_path, directions, oblique) -> None:
        dicom(directions=directions, oblique=oblique)
        series = only(tmp_path / "data")
        image = series.read()
        mask = blob(image.slices()[:, 0].shape)
        path = write_dicom_seg(series, image, mask, tmp_path / "seg.dcm")
        volume = hd.seg.segread(path).get_volume(combine_segments=True)
        marked = nib.affines.apply_affine(volume.affine, np.argwhere(volume.array)) * (-1, -1, 1)  # LPS to RAS
        expected = nib.affines.apply_affine(image.affine, np.argwhere(image.restore(mask)))
        np.testing.assert_allclose(
            marked[np.lexsort(marked.round(2).T)], expected[np.lexsort(expected.round(2).T)], atol=1e-3
        )

    def test_refers_to_the_slices_it_marks(self, dicom, tmp_path) -> None:
        files = dicom()
        series = only(tmp_path / "data")
        image = series.read()
        data = pydicom.dcmread(write_dicom_seg(series, image, blob((6, 16, 12)), tmp_path / "seg.dcm", "cord"))
        assert (data.Modality, data.SegmentSequence[0].SegmentLabel) == ("SEG", "cord")
        assert data.NumberOfFrames == 3  # empty slices are left out
        sources = [pydicom.dcmread(path) for path in files]
        assert data.StudyInstanceUID == sources[0].StudyInstanceUID
        referred = {
            entry.ReferencedSOPInstanceUID for entry in data.ReferencedSeriesSequence[0].ReferencedInstanceSequence
        }
        assert referred <= {source.SOPInstanceUID for source in sources}

    def test_an_empty_mask_can_be_written(self, dicom, tmp_path) -> None:
        dicom()
        series = only(tmp_path / "data")
        path = write_dicom_seg(series, series.read(), np.zeros((6, 16, 12)), tmp_path / "seg.dcm")
        assert not pydicom.dcmread(path).pixel_array.any()

    def test_anonymised_sources_will_do(self, dicom, tmp_path) -> None:
        for path in dicom():
            data = pydicom.dcmread(path)
            data.remove_private_tags()
            for tag in ("PatientName", "PatientID", "PatientSex", "StudyDate", "AccessionNumber", "SliceThickness"):
                del data[tag]
            data.save_as(path)
        series = only(tmp_path / "data")
        mask = blob((6, 16, 12))
        data = pydicom.dcmread(write_dicom_seg(series, series.read(), mask, tmp_path / "seg.dcm"))
        assert int(data.pixel_array.sum()) == int(mask.sum())
        assert data.PatientName == ""

    def test_wrong_sources_are_errors(self, dicom, tmp_path, voxels) -> None:
        write_nifti(tmp_path / "nifti/a.nii", voxels, affine_of("RAS"))
        series = only(tmp_path / "nifti")
        with pytest.raises(DataError, match="series 'a/a' is nifti, not DICOM; write NIfTI"):
            write_dicom_seg(series, series.read(), np.zeros((6, 16, 12)), tmp_path / "seg.dcm")
        with pytest.raises(ConfigError, match="segment must be one of"):
            write_dicom_seg(series, series.read(), np.zeros((6, 16, 12)), tmp_path / "seg.dcm", "tumour")
        for path in dicom():
            data = pydicom.dcmread(path)
            del data.FrameOfReferenceUID
            data.save_as(path)
        series = only(tmp_path / "data")
        with pytest.raises(DataError, match="has no FrameOfReferenceUID, so no DICOM segmentation can refer to it"):
            write_dicom_seg(series, series.read(), np.zeros((6, 16, 12)), tmp_path / "seg.dcm")
        assert not (tmp_path / "seg.dcm").exists()

    def test_has_a_description_a_number_and_a_colour_of_its_own(self, dicom, tmp_path) -> None:
        dicom(number=7)
        series = only(tmp_path / "data")
        image = series.read()
        mask = blob((6, 16, 12))
        lesion, cord = (
            pydicom.dcmread(write_dicom_seg(series, image, mask, tmp_path / "seg.dcm", segment))
            for segment in ("lesion", "cord")
        )
        assert (lesion.SeriesNumber, cord.SeriesNumber) == (701, 702)
        assert lesion.SeriesDescription == "lesion in series 7 (spinal_cord_cascade)"
        colours = [tuple(one.SegmentSequence[0].RecommendedDisplayCIELabValue) for one in (lesion, cord)]
        assert len(set(colours)) == 2

    def test_slices_with_series_of_their_own_get_none_with_the_reason(self, dicom, tmp_path) -> None:
        for number, path in enumerate(dicom()):
            data = pydicom.dcmread(path)
            data.SeriesInstanceUID = f"1.2.{number}"
            data.save_as(path)
        (series,), _ = find_series(tmp_path / "data")
        with pytest.raises(DataError, match="has another SeriesInstanceUID than other slices of its series, so no"):
            write_dicom_seg(series, series.read(), blob((6, 16, 12)), tmp_path / "seg.dcm")

    def test_directions_that_differ_by_rounding_are_one(self, dicom, tmp_path) -> None:
        path = dicom(oblique=17.0)[2]
        data = pydicom.dcmread(path)
        data.ImageOrientationPatient = [round(float(value), 5) for value in data.ImageOrientationPatient]
        data.save_as(path)
        series = only(tmp_path / "data")
        assert write_dicom_seg(series, series.read(), blob((6, 16, 12)), tmp_path / "seg.dcm").exists()

    @pytest.mark.parametrize("directions", ["LPS", "PIL"])
    def test_of_a_volume_sliced_another_way_lies_where_it_should(self, dicom, tmp_path, voxels, directions) -> None:
        """Edges are about equal: the slices are sagittal, however the files' are."""
        write_dicom_series(tmp_path / "data/ann/t2", voxels, affine_of(directions, (1.0, 1.0, 1.1)), "SECRET1")
        series = only(tmp_path / "data")
        image = series.read()
        mask = image.slices()[:, 0] > 1000
        volume = hd.seg.segread(write_dicom_seg(series, image, mask, tmp_path / "seg.dcm")).get_volume(
            combine_segments=True
        )
        np.testing.assert_allclose(sorted(volume.spacing), (1.0, 1.0, 1.1), atol=1e-5)
        marked = nib.affines.apply_affine(volume.affine, np.argwhere(volume.array)) * (-1, -1, 1)  # LPS to RAS
        expected = nib.affines.apply_affine(image.affine, np.argwhere(image.voxels > 1000))
        np.testing.assert_allclose(
            marked[np.lexsort(marked.round(2).T)], expected[np.lexsort(expected.round(2).T)], atol=1e-3
        )

    @pytest.mark.parametrize(
        "tag", ["PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "SeriesDate", "SeriesNumber"]
    )
    @pytest.mark.parametrize("value", ["SECRET", "***"])
    def test_odd_tags_cost_no_segmentation_and_are_quoted_nowhere(
        self, dicom, tmp_path, tag, value, caplog, recwarn, capfd
    ) -> None:
        """A name in one part, which highdicom warns of, and dates that are none, as anonymisers leave."""
        for path in dicom(patient="SECRET1"):
            data = pydicom.dcmread(path)
            vr = "LO" if tag == "SeriesNumber" else data[tag].VR if tag in data else "DA"
            data[tag] = pydicom.DataElement(tag, vr, value, validation_mode=pydicom.config.IGNORE)
            data.save_as(path)
        recwarn.clear()
        series = only(tmp_path / "data")
        mask = blob((6, 16, 12))
        written = pydicom.dcmread(write_dicom_seg(series, series.read(), mask, tmp_path / "seg.dcm"))
        assert int(written.pixel_array.sum()) == int(mask.sum())
        if tag in ("PatientBirthDate", "StudyDate", "StudyTime", "PatientSex"):
            assert written[tag].is_empty
        said = caplog.text + "".join(str(entry.message) for entry in recwarn) + "".join(capfd.readouterr())
        assert "SECRET" not in said
