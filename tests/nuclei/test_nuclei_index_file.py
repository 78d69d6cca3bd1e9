from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from nuclei_files import SHAPE, touch

from monai_ext import nuclei
from monai_ext.data import TiffStack


@pytest.fixture
def scanned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Folders whose headers are read from now on."""
    folders: list[str] = []
    original = TiffStack.scan.__func__

    def scan(cls, folder, files=None, mask=False):
        folders.append(Path(folder).parent.name)
        return original(cls, folder, files, mask)

    monkeypatch.setattr(TiffStack, "scan", classmethod(scan))
    return folders


@pytest.mark.parametrize("options", [{}, {"use_mask": True}, {"min_nucleus": 0.1}], ids=["plain", "mask", "fraction"])
def test_a_second_run_reads_no_header(root: Path, tmp_path: Path, scanned: list[str], options) -> None:
    for n, (dtype, compression) in enumerate([("u1", "lzw"), ("u2", None)], start=1):
        for file in (root / f"000{n}" / "raw").iterdir():
            tifffile.imwrite(file, np.full(SHAPE[1:], 9, dtype), compression=compression, byteorder=">")
    first = nuclei.index(root, crop_size=4, index_dir=tmp_path / "index", **options)
    assert len(scanned) == (16 if options else 8)
    assert nuclei.index(root, crop_size=4, index_dir=tmp_path / "index", **options) == first
    assert len(scanned) == (16 if options else 8)
    (file,) = (tmp_path / "index").iterdir()
    assert len(file.read_text(encoding="utf-8").splitlines()) == 1 + sum(len(s.crops) for s in first.samples)


def relabel(root: Path) -> dict:
    table = root / "classes.csv"
    table.write_text(table.read_text(encoding="utf-8").replace("Oval", "Egg"), encoding="utf-8")
    return {}


def more_slices(root: Path) -> dict:
    tifffile.imwrite(root / "0003" / "raw" / "slice_000.tif", np.zeros(SHAPE[1:], np.uint8))
    return {}


@pytest.mark.parametrize(
    "change",
    [touch, relabel, more_slices, lambda root: {"crop_size": 3}, lambda root: {"use_mask": True}],
    ids=["time", "class", "slices", "crop size", "masks"],
)
def test_the_index_is_made_anew_when_data_or_settings_change(
    root: Path, tmp_path: Path, scanned: list[str], change: Callable[[Path], dict]
) -> None:
    before = nuclei.index(root, index_dir=tmp_path / "index")
    options = change(root)
    scanned.clear()
    after = nuclei.index(root, index_dir=tmp_path / "index", **options)
    assert len(scanned) >= 8
    assert after == nuclei.index(root, **options)
    assert after != before


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", b"sample_id\n0001\n", "no crop", "other type", "cut"],
    ids=["empty", "binary", "columns", "no crop", "other type", "cut"],
)
def test_a_damaged_index_file_is_made_anew(root: Path, tmp_path: Path, content, caplog) -> None:
    first = nuclei.index(root, crop_size=4, index_dir=tmp_path / "index")
    (file,) = (tmp_path / "index").iterdir()
    text = file.read_text(encoding="utf-8")
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content == "no crop":
        file.write_text(text.replace(",0,0,4,", ",0,0,5,"), encoding="utf-8")
    elif content == "other type":
        file.write_text(text.replace("|u1", "uint5"), encoding="utf-8")
    else:
        file.write_text(text[: len(text) // 2], encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        assert nuclei.index(root, crop_size=4, index_dir=tmp_path / "index") == first
    assert "is damaged" in caplog.text
    assert file.read_text(encoding="utf-8") == text


def test_a_repaired_sample_is_found_again_although_others_come_from_the_index(
    root: Path, tmp_path: Path, scanned: list[str]
) -> None:
    file = root / "0003" / "raw" / "slice_002.tif"
    whole = file.read_bytes()
    stamp = file.stat().st_mtime_ns
    file.write_bytes(bytes(len(whole)))
    os.utime(file, ns=(stamp, stamp))
    options = {"index_dir": tmp_path / "index", "on_bad_sample": "skip"}
    assert len(nuclei.index(root, **options).samples) == 7
    scanned.clear()
    assert len(nuclei.index(root, **options).problems) == 1
    assert scanned == ["0003"]
    file.write_bytes(whole)
    os.utime(file, ns=(stamp, stamp))
    assert len(nuclei.index(root, **options).samples) == 8
