from __future__ import annotations

import copy
import dataclasses
import os
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from monai_ext.data.slice_cache import SliceCache
from monai_ext.data.tiff_slices import list_slices
from monai_ext.data.tiff_stack import TiffStack, pack_stamps
from monai_ext.errors import ConfigError, DataError

SHAPE = (5, 23, 31)


def voxels(dtype: str = "u1", shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    random_bytes = np.random.default_rng(0).integers(0, 200, shape)
    return (random_bytes * (257 if dtype.endswith("2") else 1)).astype(dtype)


def write(folder: Path, volume: np.ndarray, name: str = "slice_{:04d}.tif", **options) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(volume, start=1):
        tifffile.imwrite(folder / name.format(number), image, **options)
    return folder


FLAVOURS = {
    "uint8": ("u1", {}),
    "uint16": ("u2", {}),
    "big-endian": ("u2", {"byteorder": ">"}),
    "float32": ("f4", {}),
    "strips": ("u1", {"rowsperstrip": 4}),
    "lzw": ("u1", {"compression": "lzw"}),
    "deflate": ("u2", {"compression": "zlib", "predictor": True}),
    "deflate big-endian": ("u2", {"compression": "zlib", "byteorder": ">"}),
    "zstd": ("u1", {"compression": "zstd"}),
    "tiles": ("u1", {"tile": (16, 16)}),
    "bigtiff": ("u1", {"bigtiff": True}),
}
MAPPED = {"uint8", "uint16", "big-endian", "float32", "strips", "bigtiff"}


@pytest.fixture(scope="module")
def stacks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[TiffStack, np.ndarray]]:
    root = tmp_path_factory.mktemp("stacks")
    return {
        name: (TiffStack.scan(write(root / name, voxels(dtype), **options)), voxels(dtype))
        for name, (dtype, options) in FLAVOURS.items()
    }


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_every_flavour_is_read_exactly_in_native_byte_order(stacks, flavour: str) -> None:
    stack, volume = stacks[flavour]
    assert stack.shape == SHAPE
    assert (stack.offsets is not None) == (flavour in MAPPED)
    box = stack.read((0, 0, 0), SHAPE)
    assert box.dtype == volume.dtype
    np.testing.assert_array_equal(box, volume)
    np.testing.assert_array_equal(stack.read_slice(3), volume[3])


@given(
    st.sampled_from(["big-endian", "strips", "lzw"]),
    st.tuples(*[st.integers(0, length + 3) for length in SHAPE]),
    st.tuples(*[st.integers(1, length + 5) for length in SHAPE]),
    st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_a_box_equals_a_slice_of_the_whole_stack_padded_with_zeros(stacks, flavour, start, size, cached: bool) -> None:
    stack, volume = stacks[flavour]
    padded = np.pad(volume, [(0, length + 8) for length in SHAPE])
    expected = padded[tuple(slice(first, first + length) for first, length in zip(start, size, strict=True))]
    box = stack.read(start, size, SliceCache(1) if cached else None)
    np.testing.assert_array_equal(
        box, np.pad(expected, [(0, s - e) for s, e in zip(size, expected.shape, strict=True)])
    )


def test_negative_starts_are_refused(stacks) -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        stacks["uint8"][0].read((0, -1, 0), (1, 1, 1))


def test_slices_are_ordered_by_number_whatever_the_padding(tmp_path: Path) -> None:
    names = ["slice_1.tif", "slice_02.TIF", "slice_003.tiff", "slice_9.Tiff", "slice_10.tif", "slice_0100.tif"]
    for value, name in random.Random(3).sample(list(enumerate(names)), len(names)):
        tifffile.imwrite(tmp_path / name, np.full((2, 2), value, np.uint8))
    tifffile.imwrite(tmp_path / ".slice_4.tif", np.zeros((9, 9), np.uint8))
    (tmp_path / "notes.txt").touch()
    stack = TiffStack.scan(tmp_path)
    assert stack.names == tuple(names)
    assert stack.read((0, 0, 0), stack.shape)[:, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]


def test_slices_of_equal_number_keep_one_order(tmp_path: Path) -> None:
    for name in ("s1.tif", "s01.tif", "s001.tif"):
        tifffile.imwrite(tmp_path / name, np.zeros((2, 2), np.uint8))
    assert TiffStack.scan(tmp_path).names == ("s001.tif", "s01.tif", "s1.tif")


def test_byte_orders_may_differ_between_slices(tmp_path: Path) -> None:
    volume = voxels("u2")
    write(tmp_path, volume[:2])
    for number in (3, 4, 5):
        tifffile.imwrite(tmp_path / f"slice_{number}.tif", volume[number - 1], byteorder=">")
    np.testing.assert_array_equal(TiffStack.scan(tmp_path).read((0, 0, 0), SHAPE), volume)


def test_blanks_and_other_letters_in_paths_and_read_only_folders_do_no_harm(tmp_path: Path) -> None:
    folder = write(tmp_path / "données é 1" / "raw", voxels(), name="каре {:d}.tif")
    folder.chmod(0o555)
    try:
        np.testing.assert_array_equal(TiffStack.scan(folder).read((0, 0, 0), SHAPE), voxels())
    finally:
        folder.chmod(0o755)


def test_a_stack_is_a_path_a_value_and_travels_between_processes(stacks) -> None:
    stack, volume = stacks["lzw"]
    again = pickle.loads(pickle.dumps(stack))
    assert again == stack
    assert hash(again) == hash(stack)
    assert copy.deepcopy({"image": stack})["image"] is stack
    assert os.fspath(stack) == str(stack) == stack.folder
    np.testing.assert_array_equal(again.read((1, 2, 3), (2, 2, 2)), volume[1:3, 2:4, 3:5])


def test_only_the_box_is_copied_and_the_files_are_let_go(stacks) -> None:
    stack, _ = stacks["uint8"]
    box = stack.read((1, 2, 3), (2, 2, 2))
    assert box.base is None
    box[:] = 0  # its own memory, not the file's
    before = len(os.listdir("/proc/self/fd"))
    boxes = [stack.read((0, 0, 0), (5, 4, 4)) for _ in range(20)]
    assert len(os.listdir("/proc/self/fd")) <= before + 1, boxes[0].shape


def count_decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    decoded: list[int] = []
    original = TiffStack._decode
    monkeypatch.setattr(TiffStack, "_decode", lambda self, index: decoded.append(index) or original(self, index))
    return decoded


def test_the_cache_decodes_a_slice_once(stacks, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = count_decoded(monkeypatch)
    stack, volume = stacks["lzw"]
    cache = SliceCache()
    stack.read((1, 0, 0), (2, 4, 4), cache)
    np.testing.assert_array_equal(stack.read((0, 9, 9), (4, 8, 8), cache), volume[:4, 9:17, 9:17])
    assert decoded == [1, 2, 0, 3]
    assert cache.nbytes == 4 * SHAPE[1] * SHAPE[2]


def test_the_cache_forgets_the_stack_used_longest_ago(stacks, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = count_decoded(monkeypatch)
    cache = SliceCache(max_stacks=2)
    first, second, third = (stacks[name][0] for name in ("lzw", "deflate", "zstd"))
    for stack in (first, second, first, third, first):
        stack.read((0, 0, 0), (1, 2, 2), cache)
    assert (len(cache), len(decoded)) == (2, 3)
    second.read((0, 0, 0), (1, 2, 2), cache)
    assert len(decoded) == 4


def test_the_cache_keeps_within_its_bytes_and_reads_on(stacks, monkeypatch: pytest.MonkeyPatch) -> None:
    slice_bytes = SHAPE[1] * SHAPE[2]
    cache = SliceCache(max_bytes=3 * slice_bytes)
    (stack, volume), (other, _) = stacks["lzw"], stacks["zstd"]
    other.read((0, 0, 0), (1, 1, 1), cache)
    np.testing.assert_array_equal(stack.read((0, 0, 0), SHAPE, cache), volume)
    assert (len(cache), cache.nbytes) == (1, 3 * slice_bytes)
    nothing = SliceCache(max_bytes=0)
    np.testing.assert_array_equal(stack.read((0, 0, 0), SHAPE, nothing), volume)
    assert (len(nothing), nothing.nbytes) == (0, 0)


def test_a_cache_in_another_process_starts_empty(stacks) -> None:
    cache = SliceCache(3, 10_000)
    stacks["lzw"][0].read((0, 0, 0), (1, 1, 1), cache)
    for copied in (pickle.loads(pickle.dumps(cache)), copy.deepcopy(cache)):
        assert (len(copied), copied.nbytes, copied.max_stacks, copied.max_bytes) == (0, 0, 3, 10_000)


@pytest.mark.parametrize("bounds", [(0, 1), (1, -1)], ids=["stacks", "bytes"])
def test_bounds_of_the_cache_are_checked(bounds: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match="SliceCache"):
        SliceCache(*bounds)


@pytest.mark.parametrize("flavour", ["uint8", "lzw"])
@pytest.mark.parametrize("event", ["removed", "newer", "older", "cut off"])
def test_data_that_change_after_the_scan_are_named(tmp_path: Path, flavour: str, event: str) -> None:
    dtype, options = FLAVOURS[flavour]
    stack = TiffStack.scan(write(tmp_path / "raw", voxels(dtype), **options))
    victim = stack.path(2)
    time = victim.stat().st_mtime_ns
    if event == "removed":
        victim.unlink()
    elif event == "cut off":
        victim.write_bytes(victim.read_bytes()[:-1])
    else:
        tifffile.imwrite(victim, voxels()[0], **options)
        time += {"newer": 1, "older": -1}[event]
    if event != "removed":
        os.utime(victim, ns=(time, time))
    message = "file not found" if event == "removed" else "has changed since the data were scanned"
    with pytest.raises(DataError, match=rf"slice_0003\.tif: {message}"):
        stack.read((0, 0, 0), SHAPE)


@pytest.mark.parametrize("flavour", ["uint8", "lzw"])
def test_a_file_shorter_than_its_index_says_is_an_error_not_a_crash(tmp_path: Path, flavour: str) -> None:
    dtype, options = FLAVOURS[flavour]
    stack = TiffStack.scan(write(tmp_path / "raw", voxels(dtype, (3, 200, 200)), **options))
    content = stack.path(1).read_bytes()
    stack.path(1).write_bytes(content[: len(content) // 2])
    stack = dataclasses.replace(stack, stamps=pack_stamps(list_slices(stack.folder)))
    with pytest.raises(DataError, match=r"slice_0002\.tif: .*(truncated|damaged)"):
        stack.read((0, 190, 0), (3, 10, 10))
