"""`check` on the inputs as the network would get them."""

import json
import shutil

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from monai_ext.cli.app import app
from monai_ext.cli.prepared_check import _not_listed
from monai_ext.errors import ConfigError, DataError
from monai_ext.nuclei.demo import make_demo

pytestmark = pytest.mark.slow
SMALL = ("--crop_size", 32, "--margin", 4, "--num_folds", 2, "--test_fraction", 0, "--workers", 1)


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """Twelve nuclei of two classes."""
    return make_demo(tmp_path_factory.mktemp("nuclei") / "demo", counts=(6, 6, 0, 0, 0))


@pytest.fixture
def nuclei(clean, tmp_path):
    return shutil.copytree(clean, tmp_path / "nuclei")


def check(folder, *words):
    words = ("check", "nuclei_vgg3d", "--dataset_dir", folder, *SMALL, *words)
    return CliRunner().invoke(app, [str(word) for word in words])


def change(folder, to_what):
    """Write every slice of one nucleus, or of all, anew."""
    for path in sorted(folder.rglob("raw/*.tif")):
        image = to_what(tifffile.imread(path))
        path.unlink()
        tifffile.imwrite(path, image)


def listed(path):
    return {problem["code"]: problem for problem in json.loads(path.read_text())["problems"]}


def test_clean_data_are_prepared_without_a_finding(clean, tmp_path):
    done = check(clean, "--output", tmp_path / "found.json")
    assert done.exit_code == 0, done.output
    assert "0 errors, 0 warnings" in done.output
    inputs = json.loads((tmp_path / "found.json").read_text())["inputs"]
    assert inputs["looked_at"] == inputs["of"] > 12
    assert inputs["sentence"] in done.output
    assert not list(clean.glob("**/index*"))


def test_a_16_bit_camera_is_a_warning_with_the_setting_that_mends_it(nuclei, tmp_path):
    change(nuclei, lambda image: (104 + image / np.iinfo(image.dtype).max * 271).astype(np.uint16))
    done = check(nuclei, "--output", tmp_path / "found.json")
    assert done.exit_code == 0
    problem = listed(tmp_path / "found.json")["narrow-input"]
    assert problem["severity"] == "warning"
    assert "11 more of 12 cases" in problem["message"]
    assert "-0.99" in problem["message"]
    assert "--percentiles" in problem["step"]
    assert "--value_range" in problem["step"]
    assert problem["step"] in done.output
    mended = check(nuclei, "--percentiles", "[0.5, 99.5]")
    assert "narrow-input" not in mended.output
    assert "0 errors, 0 warnings" in mended.output


def test_a_nucleus_under_two_names_is_an_error_across_sets(nuclei, tmp_path):
    shutil.copytree(nuclei / "0001", nuclei / "0099")
    rows = (nuclei / "classes.csv").read_text().splitlines()
    first = next(row for row in rows if row.startswith("1,") or row.startswith("0001,"))
    (nuclei / "classes.csv").write_text("\n".join([*rows, "99," + first.partition(",")[2]]) + "\n")
    for fold in (1, 2):
        check(nuclei, "--output", tmp_path / f"{fold}.json", "--fold", fold)
    problems = [listed(tmp_path / f"{fold}.json") for fold in (1, 2)]
    found = [one.get("copies-across-sets") or one["same-input"] for one in problems]
    assert all({name for file in one["files"] for name in file.split("/")} >= {"0001", "0099"} for one in found)


def test_a_black_nucleus_ends_the_check_with_1(nuclei, tmp_path):
    change(nuclei / "0003", np.zeros_like)
    done = check(nuclei, "--output", tmp_path / "found.json")
    assert done.exit_code == 1
    problem = listed(tmp_path / "found.json")["constant-input"]
    assert (problem["severity"], problem["path"]) == ("error", str(nuclei / "0003" / "raw"))


def test_a_sample_says_how_many_of_how_many(clean):
    assert "prepared 5 of " in check(clean, "--sample", 5).output
    assert "no input was prepared (--sample 0)" in check(clean, "--sample", 0).output


def test_a_preview_and_a_page_show_the_inputs(nuclei, tmp_path):
    change(nuclei / "0003", np.zeros_like)
    done = check(nuclei, "--preview", tmp_path / "inputs.png", "--output", tmp_path / "found.html")
    assert (tmp_path / "inputs.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "found.html").read_text()
    assert "constant-input" in page
    assert "data:image/png" in page
    assert str(nuclei / "0003" / "raw") in page
    assert str(tmp_path / "found.html") in done.output


@pytest.mark.parametrize("suffix", [".png", ".html"])
def test_a_preview_with_nothing_to_draw_is_no_picture_and_the_findings_decide_the_exit_code(suffix, clean, tmp_path):
    preview = tmp_path / f"inputs{suffix}"
    good = check(clean, "--sample", 0, "--preview", preview)
    assert good.exit_code == 0
    assert f"--preview {preview}: no picture, there is nothing to draw; no input was prepared (--s" in good.output
    bad = check(clean, "--num_folds", 9, "--preview", preview)
    assert bad.exit_code == 1
    assert "nothing to draw; the findings say why no input could be prepared" in bad.output
    if suffix == ".png":
        assert not preview.exists()
    else:
        assert "data:image/png" not in preview.read_text()


@pytest.mark.parametrize("words", [("--output", "found.txt"), ("--preview", "inputs.jpg")])
def test_a_file_of_another_kind_is_refused_before_anything_is_read(words, tmp_path):
    error = check(tmp_path / "none", *words).exception
    assert isinstance(error, ConfigError)
    assert f"{words[0]} {words[1]}: must end with" in str(error)


def test_data_that_no_training_could_split_are_an_error(clean):
    done = check(clean, "--num_folds", 9)
    assert done.exit_code == 1
    assert "[not-looked-at]" in done.output
    assert "too few for 9 folds" in done.output
    assert "prepared" not in done.output.splitlines()[-2]


def test_code_of_a_foreign_bundle_is_listed_and_not_run(clean, tmp_path):
    config = {"items": f"$open({str(tmp_path / 'ran')!r}, 'w')", "train": {"dataset": "@items"}}
    (tmp_path / "foreign" / "configs").mkdir(parents=True)
    (tmp_path / "foreign" / "configs" / "train.json").write_text(json.dumps(config))
    words = ("check", "nuclei_vgg3d", "--dataset_dir", clean, "--bundle_root", tmp_path / "foreign")
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert "listed, but not run" in done.output
    assert not (tmp_path / "ran").exists()


def test_data_of_another_stage_are_no_error(tmp_path):
    missing = DataError("is not a folder", tmp_path / "lesion")
    assert _not_listed(missing, tmp_path).severity == "warning"
    assert _not_listed(DataError("holds no image", tmp_path), tmp_path).severity == "error"
