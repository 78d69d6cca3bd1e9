"""A folder of good, odd and hostile entries: the batch ends, and accounts for each of them."""

import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from cascade_files import cascade, write_series
from mixed_folder import ENTRIES, make_mixed_folder

from monai_ext.error_report import describe
from monai_ext.errors import IncompleteError
from monai_ext.spine import CascadeBatch, inference_series

pytestmark = pytest.mark.slow

FATES = ("admitted", "refused", "broken")


def predict(data, output, rules=None):
    batch = CascadeBatch(rules or cascade("cord_visible"), *inference_series(data), data, output, previews=False)
    return batch.run()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_mixed_folder(tmp_path_factory.mktemp("mixed"))


@pytest.fixture(scope="module")
def output(folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("mixed_output") / "out"
    with pytest.raises(IncompleteError) as caught:
        predict(folder, output)
    assert describe(caught.value)[1] == 1
    assert str(caught.value).startswith("15 of 23 series admitted, 1 refused, 7 broken, 7 other files or folders left")
    return output


@pytest.fixture(scope="module")
def report(output):
    return json.loads((output / "report.json").read_text())


def below(entry, files):
    return any(Path(file).parts[:1] == (entry,) for file in files)


@pytest.mark.parametrize("entry", ENTRIES)
def test_each_entry_is_predicted_or_has_its_reason(entry, report):
    series = [one for one in report["series"] if below(entry, one["files"])]
    problems = [one for one in report["problems"] if below(entry, [one["path"], *one["files"]])]
    if ENTRIES[entry] in FATES:
        assert [one["status"] for one in series] == [ENTRIES[entry]]
        assert (series[0]["reason"] == "") == (ENTRIES[entry] == "admitted")
        assert not problems
    else:
        assert not series
        assert any(ENTRIES[entry] in one["message"] for one in problems)


def test_each_file_is_part_of_a_series_or_of_a_problem(folder, report):
    named = {file for one in report["series"] for file in one["files"]}
    named |= {file for one in report["problems"] for file in (one["path"], *one["files"])}
    there = {path.relative_to(folder) for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()}
    shown = {os.fsencode(path).decode(errors="replace").replace("\N{REPLACEMENT CHARACTER}", "?") for path in there}
    assert {name.replace("\n", "?") for name in shown} <= named


def test_every_series_has_a_folder_of_its_own_with_its_decisions(output, report):
    folders = [output / one["patient"] / one["series"] for one in report["series"]]
    assert len(set(folders)) == len(folders) == 23
    for folder, one in zip(folders, report["series"], strict=True):
        assert len(os.fsencode(folder.name)) <= 122
        assert json.loads((folder / "decisions.json").read_text())["status"] == one["status"]
        assert (folder / "lesion.nii.gz").exists() == (one["status"] == "admitted")
    assert (output / "report.html").is_file()


def test_series_of_all_formats_have_the_same_lesions(report):
    formats = ("dicom", "no_preamble", "no_preamble_implicit", "nifti", "upper_case", "hdr_img", "nrrd", "mha", "mgz")
    found = {one["patient"]: one.get("lesion_voxels") for one in report["series"]}
    assert {name: found[name] for name in formats} == dict.fromkeys(formats, 49)


@pytest.mark.parametrize(
    "error",
    [RuntimeError("CUDA error: misaligned address"), OSError(5, "Input/output error"), IndexError("list index")],
    ids=lambda error: type(error).__name__,
)
def test_an_error_that_nobody_thought_of_breaks_one_series_and_the_next_go_on(error, tmp_path):
    for name in ("a", "b"):
        write_series(tmp_path / "data" / name / "t2.nii.gz", "nifti", "knee")
    rules, calls = cascade("cord_visible"), iter(range(9))

    class First:
        def __getattr__(self, name):
            return getattr(rules, name)

        def __call__(self, image):
            if next(calls) == 0:
                raise error
            return rules(image)

    with pytest.raises(IncompleteError, match="1 broken"):
        predict(tmp_path / "data", tmp_path / "out", First())
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [one["status"] for one in report["series"]] == ["broken", "refused"]
    assert str(error.args[-1]).lower() in report["series"][0]["reason"].lower()
    assert report["status"] == "finished"


@pytest.mark.parametrize("shape", [(48, 1, 6), (48, 40, 1), (1, 1, 6), (1, 1, 2)], ids=str)
def test_volumes_one_voxel_wide_do_not_end_the_batch(shape, tmp_path):
    voxels = np.arange(np.prod(shape)).reshape(shape).astype(np.int16)
    (tmp_path / "data" / "a").mkdir(parents=True)
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), tmp_path / "data" / "a" / "t2.nii.gz")
    report = predict(tmp_path / "data", tmp_path / "out")
    assert [one["status"] for one in report["series"]] == ["refused"]


def test_everything_is_done_where_stages_refuse_series_and_files_are_no_images(tmp_path):
    write_series(tmp_path / "data" / "a" / "t2.nii.gz", "nifti", "knee")
    (tmp_path / "data" / "a" / "t2.json").write_text("{}")
    report = predict(tmp_path / "data", tmp_path / "out")
    assert report["counts"] == {"series": 1, "admitted": 0, "refused": 1, "broken": 0, "problems": 0}
