"""A killed extraction, started again, ends as if nothing had happened; one beside another process leaves its files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fork_server import Forked
from processes import descendants, left_of

from monai_ext.ct_rate import extract_slices, extracted_slices, volumes
from monai_ext.ct_rate.demo import make_demo
from monai_ext.errors import DataError
from monai_ext.io import atomic_path


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """Volumes, and all that is extracted from them."""
    folder = tmp_path_factory.mktemp("undisturbed")
    data = make_demo(folder / "data", counts=(40, 0))
    extract_slices(volumes(data), folder / "whole", size=96, workers=1)
    return data, content(folder / "whole")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workers", "alone"),
    [
        pytest.param(1, False, id="one process"),
        pytest.param(2, False, id="all processes"),
        pytest.param(2, True, id="the parent alone"),
    ],
)
def test_an_extraction_killed_half_way_and_continued_equals_the_undisturbed_one(
    tmp_path: Path, undisturbed: tuple[Path, dict[str, bytes]], workers: int, alone: bool
) -> None:
    data, whole = undisturbed
    output = tmp_path / "killed"
    words = ["extract-slices", "--dataset_dir", data, "--output", output, "--size", 96, "--workers", workers]
    process = subprocess.Popen(
        [sys.executable, "-m", "monai_ext", *map(str, words)], stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while len(list(output.glob("slices/train/*.npy"))) < 30 and time.monotonic() < deadline:
        time.sleep(0.005)
    below = descendants(process.pid)
    if alone:
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert left_of(below) == []
    with pytest.raises(DataError, match="has no splits"):
        extracted_slices(output)
    assert extract_slices(volumes(data), output, size=96, workers=1) == []
    assert content(output) == whole


@pytest.mark.slow
def test_what_another_process_is_writing_there_stays(tmp_path: Path) -> None:
    data = make_demo(tmp_path / "data", counts=(2, 0))
    words = ["extract-slices", "--dataset_dir", data, "--output", tmp_path / "out", "--size", 16, "--workers", 1]
    with atomic_path(tmp_path / "out" / "slices" / "other.npy") as other:
        process = Forked(["monai_ext", *words], tmp_path)
        said = process.stdout.read()
        assert process.wait() == 0, said
        assert other.exists()
