from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import typer
import zarr
from typer.testing import CliRunner

from monai_ext.data import cached_patches, find_patches
from monai_ext.errors import ConfigError
from monai_ext.surface.commands import find_patches as command

SIZE = (8, 8, 8)


@pytest.fixture
def labels(tmp_path: Path) -> list[Path]:
    """Two labels: all of the first, one half of the second."""
    paths = []
    for number, end in enumerate((16, 8)):
        paths.append(tmp_path / f"é {number}.zarr")
        array = zarr.create_array(paths[-1], shape=(16, 16, 16), chunks=(8, 8, 8), dtype="uint8")
        array[:end] = 255
    return paths


@pytest.fixture
def searches(monkeypatch) -> list:
    """Labels that were searched, in order."""
    made: list = []

    def search(label, *args, **kwargs):
        made.append(label)
        return find_patches(label, *args, **kwargs)

    monkeypatch.setattr("monai_ext.data.patches_file.find_patches", search)
    return made


def test_records_name_the_volume_and_the_first_voxel(labels, tmp_path) -> None:
    file = tmp_path / "new folder" / "patches.json"
    records = cached_patches(file, labels, SIZE)
    assert records == json.loads(file.read_text())
    assert records == [
        {"volume_idx": index, "start_pos": list(start)}
        for index in (0, 1)
        for start in find_patches(labels[index], SIZE)
    ]
    assert len(records) == 27 + 9


def test_a_true_file_is_kept(labels, tmp_path, searches) -> None:
    file = tmp_path / "patches.json"
    first = cached_patches(file, labels, SIZE)
    written = file.stat().st_mtime_ns
    assert cached_patches(file, labels, np.array(SIZE)) == first
    assert file.stat().st_mtime_ns == written
    assert len(searches) == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"patch_size": (4, 8, 8)}, "patch_size changed", id="patch size"),
        pytest.param({"min_bbox_percent": 0.5}, "min_bbox_percent changed", id="bounding box"),
        pytest.param({"min_labeled_ratio": 0.5}, "min_labeled_ratio changed", id="ratio"),
        pytest.param({"cover_tail": True}, "cover_tail changed", id="tail"),
        pytest.param({"ignore_label": 9}, "ignore_label changed", id="ignored label"),
        pytest.param({"labels": 1}, "labels changed", id="fewer volumes"),
    ],
)
def test_other_arguments_find_the_patches_again_and_say_so(labels, tmp_path, caplog, change, words) -> None:
    file = tmp_path / "patches.json"
    cached_patches(file, labels, SIZE)
    arguments = {"labels": labels, "patch_size": SIZE, **change}
    if "labels" in change:
        arguments["labels"] = labels[:1]
    with caplog.at_level(logging.WARNING):
        records = cached_patches(file, **arguments)
    assert words in caplog.text
    assert records == json.loads(file.read_text())


def test_a_changed_chunk_finds_the_patches_again(labels, tmp_path, caplog) -> None:
    file = tmp_path / "patches.json"
    before = cached_patches(file, labels, SIZE)
    zarr.open_array(labels[0], mode="r+")[8:] = 0
    assert len(cached_patches(file, labels, SIZE)) < len(before)
    assert "labels changed" in caplog.text


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        pytest.param(lambda file: file.write_text("[]"), "its content is not what was written", id="edited"),
        pytest.param(
            lambda file: file.with_name("patches.made_from.json").unlink(), "is not known", id="without its origin"
        ),
        pytest.param(
            lambda file: file.with_name("patches.made_from.json").write_text("{"), "is not known", id="damaged origin"
        ),
    ],
)
def test_files_that_were_touched_are_made_again(labels, tmp_path, caplog, damage, words) -> None:
    file = tmp_path / "patches.json"
    expected = cached_patches(file, labels, SIZE)
    damage(file)
    assert cached_patches(file, labels, SIZE) == expected == json.loads(file.read_text())
    assert words in caplog.text


def test_a_kill_between_the_two_files_leaves_no_wrong_patches(labels, tmp_path) -> None:
    file, origin = tmp_path / "patches.json", tmp_path / "patches.made_from.json"
    expected = cached_patches(file, labels, SIZE)
    shutil.copy(origin, tmp_path / "kept")
    cached_patches(file, labels[:1], SIZE)
    shutil.copy(tmp_path / "kept", origin)
    assert cached_patches(file, labels, SIZE) == expected


def test_command_writes_the_patches_of_one_label(labels, tmp_path) -> None:
    app = typer.Typer()
    app.command()(command)
    file = tmp_path / "patches.json"
    arguments = ["--label", str(labels[1]), "--patch_size", "8", "8", "8", "--output", str(file)]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.output.splitlines()[-2:] == ["9 patches", str(file)]
    assert len(json.loads(file.read_text())) == 9
    with pytest.raises(ConfigError, match="min_bbox_percent is a fraction"):
        CliRunner().invoke(app, [*arguments, "--min_bbox_percent", "95"], catch_exceptions=False)
