"""OME-Zarr as it comes: channels and timepoints, zipped stores, chunks that don't fit the metadata, ignored labels."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from typer.testing import CliRunner
from zarr_archives import break_names, write_tczyx, zipped

from monai_ext.cli.app import app
from monai_ext.data import ZarrPatchDataset, find_patches
from monai_ext.errors import ConfigError, DataError
from monai_ext.settings import find_bundle, read_bundle_config
from monai_ext.surface import check, inference_items, intensity, patches, volume_sets

SHAPE = (24, 32, 40)
SIZE = (8, 16, 16)
SHEET = {"sheet": {"channels": 1, "activation": "sigmoid"}}


def test_the_command_takes_channel_and_timepoint(tmp_path, monkeypatch):
    seen = {}

    class Stop(Exception):
        pass

    def make(*args, **options):
        def call(*args, **call):
            seen.update(call)
            raise Stop

        return call

    monkeypatch.setattr("monai_ext.surface.predictor.surface_predictor", make)
    words = [
        "--checkpoint",
        "a.pt",
        "--input",
        "b.zarr",
        "--output",
        str(tmp_path),
        "--channel",
        "2",
        "--timepoint",
        "1",
    ]
    assert isinstance(CliRunner().invoke(app, ["predict-zarr", *words]).exception, Stop)
    assert (seen["channel"], seen["timepoint"]) == (2, 1)


@pytest.mark.parametrize("level_of_label", ["plain", "five axes"])
def test_patches_of_an_image_with_all_five_axes_are_those_of_the_plain_volume(
    tmp_path, tmp_path_factory, save_set, level_of_label
):
    content = save_set(tmp_path)
    shutil.rmtree(tmp_path / "input.zarr")
    write_tczyx(tmp_path / "input.zarr", content["input"], 2, (2, 3))
    if level_of_label == "five axes":
        shutil.rmtree(tmp_path / "sheet.zarr")
        write_tczyx(tmp_path / "sheet.zarr", content["sheet"], 0, (2, 1))
    sets = volume_sets(tmp_path, SHEET, SIZE, channel=2, timepoint=1)
    found = patches(sets, SIZE, tmp_path_factory.mktemp("index") / "patches.json", 0.5, 0.1)
    expected = find_patches(content["sheet"], SIZE, 0.5, 0.1)
    assert [tuple(record["start_pos"]) for record in found] == expected != []
    item = ZarrPatchDataset(sets, SIZE, found)[1]
    where = tuple(slice(start, start + edge) for start, edge in zip(expected[1], SIZE, strict=True))
    np.testing.assert_array_equal(item["image"][0], content["input"][where].astype(np.float32))
    np.testing.assert_array_equal(item["sheet"][0], content["sheet"][where])
    assert check(tmp_path, channel=2, timepoint=1) == []
    with pytest.raises(DataError, match=r"input\.zarr.*: has 2 timepoints .*choose one by --timepoint 0 to 1"):
        volume_sets(tmp_path, SHEET, SIZE)


@pytest.mark.parametrize("name", ["input", "sheet", "ref_label"])
def test_training_and_check_refuse_them_too(tmp_path, save_set, name):
    content = save_set(tmp_path)
    save_set(tmp_path, ref_label=content["sheet"])
    shutil.rmtree(tmp_path / "normals.zarr")
    break_names(tmp_path / f"{name}.zarr")
    with pytest.raises(DataError, match=rf"{name}\.zarr: its metadata names its chunks like"):
        volume_sets(tmp_path, SHEET, SIZE)
    (problem,) = [problem for problem in check(tmp_path) if problem.severity == "error"]
    assert problem.path == str(tmp_path / f"{name}.zarr")
    assert "correct dimension_separator in its metadata" in problem.message


def test_an_input_without_any_chunk_is_a_problem(tmp_path, save_set):
    save_set(tmp_path)
    shutil.rmtree(tmp_path / "input.zarr" / "c")
    (problem,) = check(tmp_path)
    assert problem.path == str(tmp_path / "input.zarr")
    assert "has no stored chunk" in problem.message


def test_zipped_arrays_in_a_folder_are_sets_too(tmp_path, tmp_path_factory, save_set):
    content = save_set(tmp_path / "a")
    shutil.rmtree(tmp_path / "a" / "normals.zarr")
    for name in ("input", "sheet"):
        zipped(tmp_path / "a" / f"{name}.zarr")
    (tmp_path / "a" / "other.zip").touch()
    (tmp_path / "a" / "b.n5").mkdir()
    sets = volume_sets(tmp_path, SHEET, SIZE)
    found = patches(sets, SIZE, tmp_path_factory.mktemp("index") / "patches.json", 0.5, 0.1)
    item = ZarrPatchDataset(sets, SIZE, found)[0]
    where = tuple(slice(start, start + edge) for start, edge in zip(found[0]["start_pos"], SIZE, strict=True))
    np.testing.assert_array_equal(item["sheet"][0], content["sheet"][where])
    assert [entry["case"] for entry in inference_items(tmp_path)] == ["a"]
    assert inference_items(sets[0]["sheet"])[0]["case"] == "sheet"
    (note,) = check(tmp_path)
    assert note.severity == "note"
    assert "(a/b.n5, a/other.zip): not read by this name" in note.message


# -- ignored labels ----------------------------------------------------------------------------------------------


@pytest.fixture
def half_ignored(tmp_path, save_set):
    """A set whose label is 7, to be ignored, in the right half; and the label without it."""
    content = save_set(tmp_path)
    sheet = content["sheet"].copy()
    sheet[:, :, 20:] = 7
    image = content["input"].copy()
    image[:, :, 20:] = 60000
    save_set(tmp_path, sheet=sheet, input=image)
    return volume_sets(tmp_path, SHEET, SIZE), content


def test_patches_and_intensities_know_the_ignored_label(half_ignored, tmp_path):
    sets, content = half_ignored
    found = patches(sets, SIZE, tmp_path / "patches.json", 0.5, 0.1, ignore_label=7)
    assert [tuple(record["start_pos"]) for record in found] == find_patches(content["sheet"], SIZE, 0.5, 0.1)
    everything = patches(sets, SIZE, tmp_path / "patches.json", 0.5, 0.1)
    assert len(everything) > len(found)
    measured = intensity(sets, "ct", tmp_path / "intensity.json", ignore_label=7)
    values = content["input"][content["sheet"] > 0]
    assert measured["mean"] == pytest.approx(values.mean())
    assert measured["upper"] == pytest.approx(np.percentile(values, 99.5))
    assert intensity(sets, "ct", tmp_path / "intensity.json")["mean"] != measured["mean"]


def test_a_label_that_is_ignored_everywhere_is_empty(tmp_path, save_set):
    save_set(tmp_path, sheet=np.full(SHAPE, 7, np.uint8))
    sets = volume_sets(tmp_path, SHEET, SIZE)
    with pytest.raises(DataError, match=r"label is empty: no voxel differs from 0 and ignore_label 7"):
        patches(sets, SIZE, tmp_path / "patches.json", 0, 0, ignore_label=7)
    words = ["check", "surface_unet", "--dataset_dir", str(tmp_path), "--sample", "0", "--ignore_label", "7"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1
    assert f"is empty: no voxel differs from 0 but {np.prod(SHAPE)} with ignore_label 7" in result.output


# -- patches beforehand ------------------------------------------------------------------------------------------


def test_one_command_finds_the_patches_of_all_sets_where_training_looks(surface_dir, tmp_path, monkeypatch):
    settings = {"dataset_dir": str(surface_dir), "index_dir": str(tmp_path / "index")}
    words = ["--patch_size", *map(str, SIZE), "--min_bbox_percent", "0.5", "--min_labeled_ratio", "0.1"]
    words += [word for name, value in settings.items() for word in (f"--{name}", value)]
    result = CliRunner().invoke(app, ["find-patches", *words, "--ignore_label", "7"])
    assert result.exit_code == 0, result.output
    assert "volume 0: 15 patches by" in result.output
    assert "volume 1: 15 patches by" in result.output
    assert f"30 patches\n{tmp_path / 'index' / 'patches.json'}" in result.output

    # a training with these settings finds nothing again
    monkeypatch.setattr("monai_ext.data.patches_file.find_patches", None)
    thresholds = {"min_bbox_percent": 0.5, "min_labeled_ratio": 0.1, "ignore_label": 7}
    training = read_bundle_config(
        str(find_bundle("surface_unet") / "configs" / "train.json"),
        {**settings, **thresholds, "patch_size": list(SIZE)},
    )
    assert len(training.get_parsed_content("patches")) == 30


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--label", "a.zarr"], "--label needs --patch_size and --output"),
        (
            ["--label", "a.zarr", "--output", "b.json", "--patch_size", "8", "8", "8", "--seed", "1"],
            "--seed is a setting",
        ),
        (["--output", "b.json"], "--output and --workers are for one --label"),
        (["--dataset_dirs", "a"], "did you mean --dataset_dir?"),
    ],
    ids=["label alone", "label and settings", "output alone", "misspelt"],
)
def test_options_that_do_not_go_together_are_refused(words, message):
    result = CliRunner().invoke(app, ["find-patches", *words])
    assert isinstance(result.exception, ConfigError)
    assert message in str(result.exception)
