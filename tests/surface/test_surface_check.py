from __future__ import annotations

import numpy as np
import pytest
import zarr
from typer.testing import CliRunner

from monai_ext.cli.app import app
from monai_ext.surface import check

SHAPE = (24, 32, 40)


def test_good_data_have_no_problems(surface_dir) -> None:
    assert check(surface_dir) == []


def test_the_command_exits_with_0_for_good_and_1_for_bad_data(surface_dir) -> None:
    words = ["check", "surface_unet", "--dataset_dir", str(surface_dir), "--patch_size", "[16, 16, 16]"]
    assert CliRunner().invoke(app, words).exit_code == 0
    zarr.open_array(surface_dir / "scroll 2" / "sheet.zarr", mode="r+")[:] = 0
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1
    assert "is empty" in result.output


@pytest.mark.parametrize(
    ("arrays", "name", "severity", "words"),
    [
        pytest.param({"sheet": np.zeros(SHAPE, np.uint8)}, "sheet", "error", "is empty", id="empty label"),
        pytest.param({"sheet": np.ones((24, 32, 41), np.uint8)}, "sheet", "error", "fits neither", id="shape"),
        pytest.param({"input": np.ones((2, *SHAPE), np.uint8)}, "input", "error", "has 2 channels", id="4-D input"),
        pytest.param({"input": np.ones(SHAPE, complex)}, "input", "error", "type complex128", id="type"),
        pytest.param(
            {"normals": np.full((*SHAPE, 3), 40000, np.uint16)},
            "normals",
            "error",
            "30720 of 30720 normals",
            id="short",
        ),
        pytest.param({"normals": np.ones((*SHAPE, 3), np.int32)}, "normals", "error", "as int32", id="type of normals"),
        pytest.param({"input": np.full(SHAPE, np.nan)}, "input", "error", "where sheet.zarr is labelled", id="NaN"),
        pytest.param({"sheet": np.full(SHAPE, np.nan)}, "sheet", "error", "30720 voxels that are NaN", id="NaN label"),
    ],
)
def test_problems_name_the_array(tmp_path, save_set, arrays, name, severity, words) -> None:
    save_set(tmp_path, **arrays)
    problems = [problem for problem in check(tmp_path) if words in problem.message]
    assert [(problem.path, problem.severity) for problem in problems] == [(str(tmp_path / f"{name}.zarr"), severity)]


def test_a_few_odd_normals_are_a_warning(tmp_path, save_set) -> None:
    content = save_set(tmp_path)
    z, y, x = np.argwhere(content["sheet"])[0]
    zarr.open_array(tmp_path / "normals.zarr", mode="r+")[z, y, x] = (65535, 65535, 65535)
    (problem,) = check(tmp_path)
    assert problem.severity == "warning"
    assert problem.message.startswith("1 of")


@pytest.mark.parametrize("channels_first", [False, True], ids=["last", "first"])
def test_floats_split_by_channel_are_read_as_vectors(tmp_path, save_set, channels_first) -> None:
    vectors = np.zeros((*SHAPE, 3), np.float32)
    vectors[:4, ..., 2] = 1
    save_set(tmp_path)
    values = np.moveaxis(vectors, -1, 0) if channels_first else vectors
    chunks = (1, 8, 16, 16) if channels_first else (8, 16, 16, 1)
    options = {"shape": values.shape, "chunks": chunks, "dtype": "float32", "overwrite": True}
    array = zarr.create_array(tmp_path / "normals.zarr", **options)
    array[...] = values
    assert check(tmp_path) == []
    array[...] = values / 2
    (problem,) = check(tmp_path)
    assert "5120 of 5120 normals" in problem.message


@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
def test_all_damaged_chunks_are_found_at_once(tmp_path, save_set, dtype) -> None:
    save_set(tmp_path, input=np.ones(SHAPE, dtype))
    for name in ("0/0/0", "1/0/0", "1/1/0", "2/1/0"):
        (tmp_path / "sheet.zarr" / "c" / name).write_bytes(b"nonsense")
    (tmp_path / "input.zarr" / "c" / "0" / "0" / "1").write_bytes(b"nonsense")
    messages = {problem.path.rpartition("/")[2]: problem.message for problem in check(tmp_path, workers=1)}
    assert messages["sheet.zarr"].startswith("4 blocks at (0, 0, 0), (8, 0, 0), (8, 16, 0), ... can't be read (")
    assert messages["input.zarr"].startswith("1 block at (0, 0, 16) can't be read (")


def test_folders_without_sets_or_targets_are_named(tmp_path) -> None:
    (nowhere,), (nothing,) = check(tmp_path / "nowhere"), check(tmp_path)
    assert "no such folder; to try things out" in nowhere.message
    assert "no input.zarr here" in nothing.message
    zarr.create_array(tmp_path / "input.zarr", data=np.ones(SHAPE, np.uint8))
    (alone,) = check(tmp_path)
    assert "no target beside input.zarr" in alone.message
