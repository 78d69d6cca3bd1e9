"""A case's stamp changes with every file that its voxels come from, even where sizes stay and times are old."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import itk
import numpy as np
import pytest

from monai_ext.data.stamps import stamp_of, stamps_of
from monai_ext.errors import DataError

OLD = 10**18  # ns


def write(path: Path, content: bytes, time: int = OLD) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, ns=(time, time))
    return path


def test_of_one_file_it_is_size_and_time(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npy", b"123")
    assert stamp_of([path]) == (3, OLD)
    assert stamps_of(path) == [[3, OLD]]


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("of", [stamp_of, lambda files: stamps_of(files[0].parent)], ids=["slices", "series"])
def test_each_file_counts(tmp_path: Path, which: int, of: Callable) -> None:
    files = [write(tmp_path / f"{number}.npy", b"123", OLD + number) for number in range(3)]
    before = of(files)
    write(files[which], b"321", OLD - 1)  # as a copy that keeps its time
    assert of(files) != before
    write(files[which], b"123", OLD + which)
    assert of(files) == before


@pytest.mark.parametrize("name", ["a.mhd", "a.hdr"])
def test_voxels_beside_a_header_count(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    itk.imwrite(itk.image_from_array(np.ones((3, 4, 5), np.int16)), str(path))
    header, voxels = stamps_of(path)
    assert header == list(stamp_of([path]))
    (beside,) = (file for file in tmp_path.iterdir() if file != path)
    write(beside, beside.read_bytes())
    assert stamps_of(path) == [header, [voxels[0], OLD]]


@pytest.mark.parametrize("of", [stamp_of, lambda files: stamps_of(*files)])
def test_a_missing_file_is_named(tmp_path: Path, of: Callable) -> None:
    with pytest.raises(DataError, match=r"gone\.nii: can't be read"):
        of([tmp_path / "gone.nii"])
