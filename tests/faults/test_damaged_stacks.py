"""Every kind of broken TIFF stack ends in one sentence that names the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from monai_ext.data.tiff_stack import TiffStack
from monai_ext.errors import DataError

SHAPE = (4, 40, 50)


def noise(dtype: str = "u1", shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, shape).astype(dtype)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "0001" / "raw")


def write(folder: Path, **options) -> Path:
    folder.mkdir(parents=True)
    for number, image in enumerate(noise()):
        tifffile.imwrite(folder / f"slice_{number}.tif", image, **options)
    return folder


def raw(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def tiff(image: np.ndarray, **options) -> Callable[[Path], object]:
    return lambda path: tifffile.imwrite(path, image, **options)


def cut(path: Path, **options) -> None:
    tifffile.imwrite(path, noise()[0], **options)
    path.write_bytes(path.read_bytes()[:-300])


def header_of_a_stack(path: Path) -> None:
    """One header for three images, as ImageJ writes them beyond 4 GiB."""
    tifffile.imwrite(path, noise()[:3], imagej=True)
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        order = {"<": "little", ">": "big"}[file.byteorder]
        at = content.index(file.pages[1].offset.to_bytes(4, order))
    content[at : at + 4] = bytes(4)
    path.write_bytes(content)


RGB = np.zeros((40, 50, 3), np.uint8)
CORPUS = [
    ("empty", raw(b""), "is empty"),
    ("html", raw(b"<html>404 not found</html>"), "is not a TIFF file"),
    ("png", raw(b"\x89PNG\r\n\x1a\n" + bytes(50)), "is not a TIFF file"),
    ("magic only", raw(b"II*\0"), "TIFF|truncated|can't be read"),
    ("header only", raw(b"II*\0\x08\0\0\0"), "TIFF|truncated|can't be read"),
    ("truncated", cut, "is truncated"),
    ("truncated lzw", lambda path: cut(path, compression="lzw"), "is truncated"),
    ("truncated deflate", lambda path: cut(path, compression="zlib"), "is truncated"),
    ("two pages", tiff(noise()[:2]), "holds 2 images"),
    ("imagej stack", header_of_a_stack, "holds 3 images"),
    ("colour", tiff(RGB, photometric="rgb"), "is a colour image"),
    ("planar colour", tiff(RGB.transpose(2, 0, 1), photometric="rgb", planarconfig="separate"), "is a colour image"),
    ("palette", tiff(noise()[0], photometric="palette", colormap=np.zeros((3, 256), "u2")), "is a colour image"),
    ("complex", tiff(noise()[0].astype("c8")), "of type complex64"),
    ("other shape", tiff(noise()[0, :39]), r"has shape \(39, 50\), but 3 others have \(40, 50\)"),
    ("other type", tiff(noise("u2")[0]), r"has data type uint16, but 3 others have uint8"),
    ("signed", tiff(noise("i1")[0]), r"has data type int8, but 3 others have uint8"),
]


@pytest.mark.parametrize(("make", "message"), [entry[1:] for entry in CORPUS], ids=[entry[0] for entry in CORPUS])
def test_a_damaged_slice_is_named_by_the_scan(folder: Path, make: Callable[[Path], object], message: str) -> None:
    make(folder / "slice_2.tif")
    with pytest.raises(DataError, match=message) as caught:
        TiffStack.scan(folder)
    assert caught.value.path == folder / "slice_2.tif"
    assert str(caught.value).startswith(f"{folder / 'slice_2.tif'}: ")
    assert "\n" not in str(caught.value)


def test_folders_without_slices_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"raw: is not a folder"):
        TiffStack.scan(tmp_path / "raw")
    (tmp_path / "raw").mkdir()
    with pytest.raises(DataError, match=r"raw: holds no TIFF slices \(\.tif, \.tiff\), nothing at all"):
        TiffStack.scan(tmp_path / "raw")
    (tmp_path / "raw" / "slice.png").touch()
    with pytest.raises(DataError, match="only 1 other files"):
        TiffStack.scan(tmp_path / "raw")


@pytest.mark.parametrize("kind", ["broken link", "link in a circle", "folder"])
def test_entries_that_are_no_files_are_named(folder: Path, kind: str) -> None:
    entry = folder / "slice_9.tif"
    if kind == "folder":
        entry.mkdir()
    else:
        entry.symlink_to("nowhere" if kind == "broken link" else entry.name)
    with pytest.raises(DataError, match=r"slice_9\.tif: "):
        TiffStack.scan(folder)


@pytest.mark.parametrize("compression", [None, "lzw", "zlib"], ids=["plain", "lzw", "deflate"])
def test_a_file_cut_anywhere_is_an_error_with_its_name(tmp_path: Path, compression: str | None) -> None:
    folder = write(tmp_path / "raw", compression=compression)
    content = (folder / "slice_1.tif").read_bytes()
    for length in np.linspace(0, len(content) - 1, 60).astype(int):
        (folder / "slice_1.tif").write_bytes(content[:length])
        with pytest.raises(DataError, match=r"slice_1\.tif: "):
            TiffStack.scan(folder)


@pytest.mark.parametrize("compression", ["lzw", "zlib"], ids=["lzw", "deflate"])
def test_damaged_pixels_are_an_error_with_the_file_s_name(tmp_path: Path, compression: str) -> None:
    folder = write(tmp_path / "raw", compression=compression)
    stack = TiffStack.scan(folder)
    content = bytearray(stack.path(1).read_bytes())
    with tifffile.TiffFile(stack.path(1)) as file:
        start = file.pages.first.dataoffsets[0]
    content[start : start + 200] = bytes(range(200))
    stack.path(1).write_bytes(content)
    stack = TiffStack.scan(folder)  # headers are whole
    with pytest.raises(DataError, match=r"slice_1\.tif: ") as caught:
        stack.read((0, 0, 0), SHAPE)
    assert caught.value.path == folder / "slice_1.tif"


def test_random_damage_never_raises_anything_but_data_errors(tmp_path: Path) -> None:
    folder = write(tmp_path / "raw", compression="zlib")
    rng = np.random.default_rng(1)
    content = (folder / "slice_1.tif").read_bytes()
    messages = []
    for _ in range(150):
        damaged = bytearray(content)
        for at in rng.integers(0, len(damaged) if rng.random() < 0.3 else 200, 3):
            damaged[at] = rng.integers(256)
        (folder / "slice_1.tif").write_bytes(damaged)
        try:
            TiffStack.scan(folder).read((0, 0, 0), SHAPE)
        except DataError as error:
            messages.append(str(error))
    assert len(messages) > 20
    assert all("slice_1.tif: " in message for message in messages)
