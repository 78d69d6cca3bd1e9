import errno
import json
import os
import re

import nibabel as nib
import numpy as np
import pytest
from cascade_files import cascade, spine, write_series

from monai_ext.errors import ConfigError, DataError, IncompleteError, WriteError
from monai_ext.memory import FullMemoryError
from monai_ext.spine import CascadeBatch, inference_series, write_like
from monai_ext.spine.cascade import output as output_module

pytestmark = pytest.mark.slow

MASKS = ("lesion.nii.gz", "lesion_prob.nii.gz", "cord.nii.gz")


def predict(data, output, rules=None, **options):
    """Run the batch; gives its report, whether or not all was admitted."""
    series, problems = inference_series(data)
    batch = CascadeBatch(rules or cascade("cord_visible"), series, problems, data, output, **options)
    try:
        return batch.run()
    except IncompleteError:
        return json.loads((output / "report.json").read_text())


def load(path):
    volume = nib.load(path)
    return np.asarray(volume.dataobj), volume.affine


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The same four series of three patients, each as files of another kind, and two broken files."""
    root = tmp_path_factory.mktemp("cascade") / "data"
    for patient, kind in (("ann", "dicom"), ("bob", "nifti"), ("cat", "slices")):
        for number, shows in enumerate(("cervical", "T1w", "thoracic", "knee"), start=1):
            suffix = ".nii.gz" if kind == "nifti" else ""
            write_series(root / patient / f"{shows}{suffix}", kind, shows, f"SECRET-{patient}", number)
    (root / "bob" / "broken.nii.gz").write_bytes(b"no volume")
    (root / "ann" / "broken.dcm").write_bytes(b"no image")
    return root


@pytest.fixture(scope="module")
def done(data, tmp_path_factory):
    """Output of one run over all of it."""
    output = tmp_path_factory.mktemp("cascade_output") / "out"
    predict(data, output, intermediate=True)
    return output


@pytest.mark.parametrize("oblique", [0.0, 7.0], ids=["straight", "oblique"])
@pytest.mark.parametrize("directions", ["RAS", "LPS", "PIR", "SLA"])
def test_masks_have_the_shape_and_the_affine_of_the_input(directions, oblique, tmp_path):
    image, lesion = spine(oblique=oblique)
    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(image.affine), nib.orientations.axcodes2ornt(directions)
    )
    volume, expected = (
        nib.Nifti1Image(array.astype(np.int16), image.affine).as_reoriented(turn) for array in (image.voxels, lesion)
    )
    (tmp_path / "data" / "ann").mkdir(parents=True)
    nib.save(volume, tmp_path / "data" / "ann" / "t2.nii.gz")
    predict(tmp_path / "data", tmp_path / "out")
    for name in MASKS:
        _, affine = load(tmp_path / "out" / "ann" / "t2" / name)
        np.testing.assert_allclose(affine, volume.affine, atol=1e-5)
    mask, _ = load(tmp_path / "out" / "ann" / "t2" / "lesion.nii.gz")
    np.testing.assert_array_equal(mask, np.asarray(expected.dataobj))


def test_dicom_nifti_and_pictures_of_one_series_give_the_same_lesions(done):
    dicom, nifti, slices = (load(done / name / "cervical" / "lesion.nii.gz") for name in ("ann", "bob", "cat"))
    canonical = nib.as_closest_canonical(nib.Nifti1Image(dicom[0], dicom[1]))
    np.testing.assert_allclose(canonical.affine, nifti[1], atol=1e-4)
    np.testing.assert_array_equal(np.asarray(canonical.dataobj), nifti[0])
    # pictures are turned to be looked at, and know nothing of mm
    assert slices[0].sum() == dicom[0].sum() == 49
    summaries = [json.loads((done / name / "summary.json").read_text()) for name in ("ann", "bob", "cat")]
    assert [one["lesion_count"] for one in summaries] == [2, 2, 2]
    assert [one["lesion_volume_mm3"] for one in summaries] == [147.0, 147.0, None]
    (shown,) = (one for one in summaries[0]["series"] if one["status"] == "admitted")
    assert (shown["series"], shown["lesion_slices"]) == ("cervical", [2, 3])


def test_every_series_has_its_decisions_and_only_admitted_ones_have_masks(done):
    for patient in ("ann", "bob", "cat"):
        for series in ("cervical", "T1w", "thoracic", "knee"):
            folder = done / patient / series
            decisions = json.loads((folder / "decisions.json").read_text())
            assert decisions["status"] == ("admitted" if series == "cervical" else "refused")
            assert [(folder / name).exists() for name in MASKS] == [series == "cervical"] * 3
            for stage in decisions["stages"]:
                assert stage.keys() >= {"stage", "admitted", "reason", "seconds"}
                if stage["stage"] in ("anatomy", "location_view", "sequence"):
                    assert stage.keys() >= {"label", "probability", "votes", "threshold", "admit", "min_slices"}
    assert files(done / "cat" / "cervical") == [
        *("cord.nii.gz", "cord_prob.nii.gz", "decisions.json", "lesion.nii.gz", "lesion_prob.nii.gz"),
        *(f"previews/slice_{number:03d}.png" for number in (1, 2, 3, 4)),
        *(f"slices_{stage}.csv" for stage in ("anatomy", "cord", "lesion", "location_view", "sequence")),
    ]


def test_the_report_names_every_series_and_every_bad_file_with_its_reason(done):
    report = json.loads((done / "report.json").read_text())
    assert report["status"] == "finished"
    assert report["counts"] == {"series": 13, "admitted": 3, "refused": 9, "broken": 1, "problems": 1}
    reasons = {f"{one['patient']}/{one['series']}": one["reason"] for one in report["series"]}
    assert reasons["ann/knee"] == "anatomy: is knee (probability 1.00); admitted: spine"
    assert reasons["bob/broken"].startswith("bob/broken.nii.gz: ")
    assert [problem["path"] for problem in report["problems"]] == ["ann/broken.dcm"]
    page = (done / "report.html").read_text()
    assert "Not for clinical use" in page
    for text in (*filter(None, reasons.values()), "ann/broken.dcm"):
        assert text in page
    assert page.count("<img ") == 3


def test_the_run_ends_with_one_sentence_when_a_file_was_left_out(data, tmp_path):
    series, problems = inference_series(data)
    batch = CascadeBatch(cascade(), series[:4], problems, data, tmp_path / "out", previews=False)
    with pytest.raises(
        IncompleteError, match=r"^1 of 4 series admitted, 3 refused, 1 other files or folders left out; .*report.html"
    ):
        batch.run()


def test_the_run_ends_well_when_everything_was_admitted(tmp_path):
    write_series(tmp_path / "data" / "ann" / "t2", "dicom")
    series, problems = inference_series(tmp_path / "data")
    report = CascadeBatch(cascade(), series, problems, tmp_path / "data", tmp_path / "out").run()
    assert report["counts"]["admitted"] == 1


def test_dicom_segmentations_lie_where_the_series_does(done, data):
    import highdicom as hd
    import pydicom

    expected, affine = load(done / "ann" / "cervical" / "lesion.nii.gz")
    segmentation = hd.seg.segread(done / "ann" / "cervical" / "lesion.dcm")
    volume = segmentation.get_volume(combine_segments=True, allow_missing_positions=True)
    as_nifti = nib.Nifti1Image(volume.array.astype(np.uint8), np.diag([-1.0, -1, 1, 1]) @ volume.affine)
    ours = nib.as_closest_canonical(nib.Nifti1Image(expected, affine))
    theirs = nib.as_closest_canonical(as_nifti)
    inside = [nib.affines.apply_affine(one.affine, np.argwhere(np.asarray(one.dataobj) > 0)) for one in (ours, theirs)]
    assert len(inside[0]) == len(inside[1]) == 49
    np.testing.assert_allclose(*(np.array(sorted(points.round(3).tolist())) for points in inside), atol=2e-3)
    source = pydicom.dcmread(next((data / "ann" / "cervical").iterdir()))
    assert segmentation.PatientID == source.PatientID
    assert segmentation.StudyInstanceUID == source.StudyInstanceUID
    assert not list((done / "bob").rglob("*.dcm"))


def test_a_series_that_no_segmentation_can_refer_to_keeps_its_other_results(tmp_path):
    import pydicom

    folder = write_series(tmp_path / "data" / "ann" / "t2", "dicom")
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        del dataset.FrameOfReferenceUID
        dataset.save_as(path)
    series, problems = inference_series(tmp_path / "data")
    with pytest.raises(IncompleteError, match="1 of 1 series admitted, 0 refused, 1 without DICOM segmentation"):
        CascadeBatch(cascade(), series, problems, tmp_path / "data", tmp_path / "out").run()
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    notes = report["series"][0]["notes"]
    assert [note.split()[0] for note in notes] == ["lesion.dcm", "cord.dcm"]
    assert "has no FrameOfReferenceUID" in notes[0]
    assert (tmp_path / "out" / "ann" / "t2" / "lesion.nii.gz").exists()


@pytest.mark.parametrize("kind", ["dicom", "slices"])
def test_a_series_of_mixed_shapes_is_named_and_the_others_go_on(kind, tmp_path):
    import pydicom
    from PIL import Image

    write_series(tmp_path / "data" / "ann" / "good.nii.gz", "nifti")
    odd = sorted(write_series(tmp_path / "data" / "ann" / "mixed", kind).iterdir())[2]
    if kind == "dicom":
        dataset = pydicom.dcmread(odd)
        dataset.Rows -= 1
        dataset.PixelData = dataset.PixelData[: -2 * dataset.Columns]
        dataset.save_as(odd)
    else:
        Image.new("L", (10, 10)).save(odd)
    report = predict(tmp_path / "data", tmp_path / "out")
    assert report["counts"]["admitted"] == 1
    page = (tmp_path / "out" / "report.html").read_text()
    assert "ann/mixed/" in page
    assert "of the same series" in page


def test_patients_with_equally_named_series_stay_apart(tmp_path):
    for patient, shows in (("ann", "cervical"), ("bob", "knee")):
        write_series(tmp_path / "data" / patient / "t2.nii.gz", "nifti", shows)
    predict(tmp_path / "data", tmp_path / "out")
    summaries = [json.loads((tmp_path / "out" / name / "summary.json").read_text()) for name in ("ann", "bob")]
    assert [(one["patient"], one["admitted_series"], len(one["series"])) for one in summaries] == [
        ("ann", 1, 1),
        ("bob", 0, 1),
    ]


def test_nothing_but_dicom_says_who_the_patient_is(done):
    identified = re.compile(rb"SECRET|Demo\^")
    for path in done.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            if path.name.endswith(".gz"):
                content = nib.load(path).header.binaryblock + bytes(str(nib.load(path).header.extensions), "utf-8")
            assert bool(identified.search(content)) == (path.suffix == ".dcm"), path
    assert not any(identified.search(str(path).encode()) for path in done.rglob("*"))


def test_a_second_run_replaces_what_is_there(data, tmp_path):
    root = tmp_path / "data"
    for name in ("a", "b", "c"):
        write_series(root / "ann" / f"{name}.nii.gz", "nifti")
    write_series(root / "bob" / "d.nii.gz", "nifti")
    predict(root, tmp_path / "out", previews=False, intermediate=True)
    before = (tmp_path / "out" / "ann" / "a" / "lesion.nii.gz").read_bytes()

    write_series(root / "ann" / "b.nii.gz", "nifti", "knee")
    (root / "ann" / "c.nii.gz").unlink()
    (root / "bob" / "d.nii.gz").unlink()
    predict(root, tmp_path / "out", previews=False)
    assert files(tmp_path / "out") == [
        *(f"ann/a/{name}" for name in ("cord.nii.gz", "decisions.json", "lesion.nii.gz", "lesion_prob.nii.gz")),
        *("ann/b/decisions.json", "ann/summary.json", "report.html", "report.json"),
    ]
    assert (tmp_path / "out" / "ann" / "a" / "lesion.nii.gz").read_bytes() == before
    assert not (tmp_path / "out" / "bob").exists()


def test_a_series_whose_results_can_not_be_written_is_broken_and_the_next_go_on(tmp_path, monkeypatch):
    for name in ("a", "b"):
        write_series(tmp_path / "data" / "ann" / f"{name}.nii.gz", "nifti")
    predict(tmp_path / "data", tmp_path / "out")

    def full(image, slices, path):
        if path.name == "cord.nii.gz" and ".a." in str(path):
            raise WriteError(f"could not write {path}: no space left on device")
        return write_like(image, slices, path)

    monkeypatch.setattr(output_module, "write_like", full)
    report = predict(tmp_path / "data", tmp_path / "out")
    assert [one["status"] for one in report["series"]] == ["broken", "admitted"]
    assert "no space left" in report["series"][0]["reason"]
    # no masks of the run before beside a report that says "broken"
    assert files(tmp_path / "out" / "ann" / "a") == ["decisions.json"]
    assert report["status"] == "finished"


def test_results_that_can_not_be_put_in_their_place_leave_the_old_ones_there(tmp_path, monkeypatch):
    write_series(tmp_path / "data" / "ann" / "t2.nii.gz", "nifti")
    predict(tmp_path / "data", tmp_path / "out")
    before = files(tmp_path / "out")
    replace = os.replace

    def failing(source, target):
        if source.name == ".t2.new.partial":
            raise OSError(errno.EIO, "input/output error")
        replace(source, target)

    monkeypatch.setattr(output_module.os, "replace", failing)
    (series,) = predict(tmp_path / "data", tmp_path / "out")["series"]
    assert series["status"] == "broken"
    for text in (series["reason"], *series["notes"]):
        assert "ann/t2: input/output error" in text
    assert files(tmp_path / "out") == before


def test_what_is_left_of_a_killed_run_is_taken_away(tmp_path):
    write_series(tmp_path / "data" / "ann" / "t2.nii.gz", "nifti")
    predict(tmp_path / "data", tmp_path / "out")
    for name in (".t2.new.partial", ".gone.new.partial"):
        (tmp_path / "out" / "ann" / name / "previews").mkdir(parents=True)
    predict(tmp_path / "data", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out" / "ann").iterdir()) == ["summary.json", "t2"]


@pytest.mark.parametrize(
    ("place", "message"),
    [("data/out", "lies in dataset_dir"), ("notes", "holds other files"), ("earlier", "of another dataset_dir")],
)
def test_an_output_folder_with_something_else_in_it_is_refused(tmp_path, place, message):
    write_series(tmp_path / "data" / "ann" / "t2.nii.gz", "nifti")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("keep me")
    (tmp_path / "earlier").mkdir()
    (tmp_path / "earlier" / "report.json").write_text('{"dataset_dir": "/elsewhere"}')
    before = files(tmp_path)
    with pytest.raises(ConfigError, match=message):
        predict(tmp_path / "data", tmp_path / place)
    assert files(tmp_path) == before


def test_an_output_folder_inside_the_series_is_refused_by_whatever_name_they_go(tmp_path):
    write_series(tmp_path / "data" / "ann" / "t2.nii.gz", "nifti")
    (tmp_path / "link").symlink_to(tmp_path / "data")
    with pytest.raises(ConfigError, match="lies in dataset_dir"):
        predict(tmp_path / "link", tmp_path / "data" / "out")


def test_previews_and_segmentations_can_be_left_out(data, tmp_path):
    write_series(tmp_path / "data" / "ann" / "t2", "dicom")
    predict(tmp_path / "data", tmp_path / "out", previews=False, dicom_seg=False)
    assert files(tmp_path / "out" / "ann" / "t2") == ["cord.nii.gz", "decisions.json", "lesion.nii.gz", MASKS[1]]


def test_series_lie_in_the_folder_series_where_there_is_one(tmp_path):
    write_series(tmp_path / "series" / "ann" / "t2.nii.gz", "nifti")
    write_series(tmp_path / "lesion" / "images.nii.gz", "nifti")
    assert [one.name for one in inference_series(tmp_path)[0]] == ["ann/t2"]


@pytest.mark.parametrize("place", ["empty", "absent"])
def test_a_folder_without_series_is_an_error_that_says_what_to_do(tmp_path, place):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="demo-data spinal_cord_cascade"):
        inference_series(tmp_path / place)


def test_a_series_that_does_not_fit_the_memory_is_broken_and_the_others_go_on(data, tmp_path):
    rules = cascade("cord_visible")

    before = predict(data, tmp_path / "all", rules)
    calls = iter(range(100))

    class Third:
        """Doesn't fit the third series."""

        def __getattr__(self, name):
            return getattr(rules, name)

        def __call__(self, image):
            if next(calls) == 2:
                raise FullMemoryError("out of memory with one sample; take another --device")
            return rules(image)

    report = predict(data, tmp_path / "out", Third())
    broken = [series for series in report["series"] if "out of memory" in (series.get("reason") or "")]
    assert len(broken) == 1
    assert broken[0]["status"] == "broken"
    assert len(report["series"]) == len(before["series"])


def test_a_series_whose_outputs_are_not_finite_is_broken_and_has_no_masks_and_the_others_go_on(tmp_path):
    for name in ("a", "b"):
        write_series(tmp_path / "data" / "ann" / f"{name}.nii.gz", "nifti")
    rules = cascade("cord_visible")
    network, calls = rules.stages["lesion"].network, iter(range(100))
    rules.stages["lesion"].network = lambda batch: network(batch) * (float("nan") if next(calls) == 0 else 1)
    report = predict(tmp_path / "data", tmp_path / "out", rules)
    assert [one["status"] for one in report["series"]] == ["broken", "admitted"]
    assert report["series"][0]["reason"].startswith("ann: stage 'lesion': its network gives values that are no numbers")
    assert files(tmp_path / "out" / "ann" / "a") == ["decisions.json"]


def test_ctrl_c_leaves_a_report_that_says_killed(tmp_path, monkeypatch):
    write_series(tmp_path / "data" / "ann" / "t2.nii.gz", "nifti")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(CascadeBatch, "_predict", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict(tmp_path / "data", tmp_path / "out")
    assert json.loads((tmp_path / "out" / "report.json").read_text())["status"] == "killed"
