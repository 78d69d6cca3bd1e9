from __future__ import annotations

import json
import re
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.storage import MemoryStore

from monai_ext.data import find_patches
from monai_ext.data.patches_blocks import LabelBlocks
from monai_ext.errors import ConfigError, DataError

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = json.loads((GOLDEN / "patches.json").read_text())
PATCHES = {name: case for name, case in CASES.items() if name.startswith("patch(")}


@pytest.fixture(scope="module")
def label() -> np.ndarray:
    return np.load(GOLDEN / "patch_label.npz")["label"]


def settings_of(name: str) -> tuple[tuple[int, ...], float, float]:
    *size, bbox, ratio = re.findall(r"\d+(?:\.\d+)?", name)
    return tuple(map(int, size)), float(bbox), float(ratio)


def stored(array: np.ndarray, chunks: tuple[int, ...], **options) -> zarr.Array:
    """In memory; chunks without labels are not stored."""
    target = zarr.create_array(
        options.pop("store", MemoryStore()), shape=array.shape, dtype=array.dtype, chunks=chunks, **options
    )
    target[...] = array
    return target


def one_by_one(label: np.ndarray, size, min_bbox_percent, min_labeled_ratio, cover_tail=False) -> list[tuple]:
    """The definition: each candidate by itself."""
    where = np.argwhere(label)
    axes = []
    for low, high, edge, length in zip(where.min(0), where.max(0) + 1, size, label.shape, strict=True):
        starts = list(range(low, high - edge + 1, max(1, edge // 2)))
        if cover_tail and (not starts or starts[-1] + edge < high):
            starts.append(high - edge if high - edge >= low else min(low, length - edge))
        axes.append(starts)
    found = []
    for z in axes[0]:
        for y in axes[1]:
            for x in axes[2]:
                patch = label[z : z + size[0], y : y + size[1], x : x + size[2]]
                inside = np.argwhere(patch)
                if not len(inside):
                    continue
                box = np.prod(inside.max(0) - inside.min(0) + 1)
                if box / patch.size >= min_bbox_percent and len(inside) / patch.size >= min_labeled_ratio:
                    found.append((int(z), int(y), int(x)))
    return found


@pytest.mark.parametrize("name", PATCHES)
def test_positions_and_order_equal_the_reference(label, name) -> None:
    expected = [tuple(start) for start in PATCHES[name]["start_pos"]]
    assert find_patches(label, *settings_of(name)) == expected


def test_bounding_box_equals_the_reference(label) -> None:
    low, high = LabelBlocks(stored(label, (32, 32, 32))).bounding_box()
    assert np.stack([low, high - 1], axis=1).ravel().tolist() == CASES["bbox_minz_maxz_miny_maxy_minx_maxx"]


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"chunks": (32, 32, 32), "zarr_format": 2}, id="v2"),
        pytest.param({"chunks": (17, 120, 9)}, id="v3, chunks that fit nothing"),
        pytest.param({"chunks": (100, 120, 150)}, id="one chunk"),
        pytest.param({"chunks": (16, 16, 16), "shards": (48, 64, 32)}, id="shards"),
    ],
)
@pytest.mark.parametrize("name", ["patch(32, 32, 32)_bbox0.95_label0.05", "patch(24, 40, 56)_bbox0.5_label0.02"])
def test_storage_changes_nothing(label, options, name) -> None:
    expected = [tuple(start) for start in PATCHES[name]["start_pos"]]
    assert find_patches(stored(label, **options), *settings_of(name), workers=3) == expected


def test_large_shards_are_read_in_parts(label, monkeypatch) -> None:
    monkeypatch.setattr("monai_ext.data.patches_blocks._MAX_BYTES", 20_000)
    array = stored(label, chunks=(16, 16, 16), shards=(48, 96, 32))
    assert LabelBlocks(array).shape.tolist() == [16, 16, 32]
    name = "patch(32, 32, 32)_bbox0.95_label0.05"
    assert find_patches(array, *settings_of(name)) == [tuple(start) for start in PATCHES[name]["start_pos"]]


@st.composite
def problems(draw):
    """Random labels, dense to nearly empty; any chunking; odd and even patches, of one voxel too."""
    shape = draw(st.tuples(*[st.integers(5, 16)] * 3))
    seed, density = draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from([0.003, 0.05, 0.3, 0.9]))
    label = (np.random.default_rng(seed).random(shape) < density).astype(np.uint8)
    label[tuple(draw(st.integers(0, size - 1)) for size in shape)] = 1
    size = draw(st.tuples(*[st.integers(1, 5)] * 3))
    chunks = draw(st.tuples(*[st.integers(2, 16)] * 3))
    return label, size, chunks


@settings(max_examples=60, deadline=None)
@given(
    problem=problems(),
    thresholds=st.sampled_from([(0.0, 0.0), (0.3, 0.05), (0.75, 0.25), (1.0, 0.5)]),
    workers=st.sampled_from([1, 3]),
)
def test_any_label_chunking_and_number_of_workers_gives_the_same_as_one_by_one(problem, thresholds, workers) -> None:
    label, size, chunks = problem
    for cover_tail in (False, True):
        expected = one_by_one(label, size, *thresholds, cover_tail)
        try:
            found = find_patches(stored(label, chunks), size, *thresholds, cover_tail=cover_tail, workers=workers)
        except DataError as error:
            assert "is smaller than patch_size" in str(error)  # noqa: PT017 - hypothesis draws both outcomes
            found = []
        assert found == expected


def test_tail_reaches_the_end_of_the_bounding_box(label) -> None:
    plain, covering = (find_patches(label, (32, 32, 32), 0, 0, cover_tail=cover) for cover in (False, True))
    assert set(plain) < set(covering)
    assert covering == sorted(covering)
    where = np.argwhere(label)
    assert (np.max(covering, axis=0) + 32 == where.max(axis=0) + 1).all()


class CountingStore(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.reads: Counter[str] = Counter()

    async def get(self, key, *args, **kwargs):
        self.reads[key] += 1
        return await super().get(key, *args, **kwargs)


@pytest.mark.parametrize("listing", [True, False], ids=["listing store", "store without listing"])
def test_chunks_are_read_at_most_twice_and_empty_ones_at_most_once(listing, monkeypatch) -> None:
    store = CountingStore()
    monkeypatch.setattr(CountingStore, "supports_listing", listing)
    label = np.zeros((64, 64, 64), np.uint8)
    label[:40, 8:56, 20:60] = 1
    array = stored(label, (8, 8, 8), store=store)
    full = {f"c/{z}/{y}/{x}" for z, y, x in np.unique(np.argwhere(label) // 8, axis=0)}
    store.reads.clear()
    find_patches(array, (16, 16, 16))
    assert set(store.reads) >= full
    assert max(store.reads[key] for key in full) <= 2
    empty = [count for key, count in store.reads.items() if key not in full]
    assert max(empty, default=0) <= (0 if listing else 1)
    # the box is known from its surface
    assert store.reads["c/2/4/5"] == 1


def test_a_huge_volume_costs_time_and_memory_for_its_labels_only() -> None:
    edge, corner = 8192, (slice(0, 64),) * 3
    array = zarr.create_array(MemoryStore(), shape=(edge,) * 3, chunks=(64,) * 3, dtype="uint8", fill_value=0)
    array[corner] = 1
    array[tuple(slice(edge - part.stop, edge) for part in corner)] = 1
    tracemalloc.start()
    found = find_patches(array, (256, 256, 256), 0, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == [(0, 0, 0), (edge - 256,) * 3]
    assert peak < 50 << 20


def test_missing_chunks_of_another_value_count_as_labelled() -> None:
    array = zarr.create_array(MemoryStore(), shape=(16, 16, 16), chunks=(8, 8, 8), dtype="uint8", fill_value=1)
    assert len(find_patches(array, (8, 8, 8))) == 27


def test_urls_of_other_file_systems_open(label) -> None:
    array = stored(label, (64, 64, 64), store="memory://patches/label.zarr")
    name = "patch(64, 64, 64)_bbox0.95_label0.05"
    found = find_patches("memory://patches/label.zarr", *settings_of(name))
    assert found == find_patches(array, *settings_of(name)) == [tuple(start) for start in PATCHES[name]["start_pos"]]


@pytest.mark.parametrize("as_url", [False, True], ids=["path", "URL"])
def test_paths_with_blanks_and_ome_zarr_images_open(label, tmp_path, as_url) -> None:
    root = tmp_path / "données x.zarr"
    group = zarr.open_group(root, mode="w")
    group.attrs["ome"] = {"multiscales": [{"datasets": [{"path": "0"}]}]}
    array = group.create_array("0", shape=label.shape, dtype=label.dtype, chunks=(64, 64, 64))
    array[...] = label
    name = "patch(64, 64, 64)_bbox0.95_label0.05"
    expected = [tuple(start) for start in PATCHES[name]["start_pos"]]
    for place in (root, root / "0"):
        assert find_patches(f"file://{place}" if as_url else place, *settings_of(name)) == expected


def test_a_failure_while_reading_ends_the_search(tmp_path) -> None:
    array = stored(np.ones((16, 16, 16), np.uint8), (8, 8, 8), store=tmp_path / "a.zarr")
    (tmp_path / "a.zarr" / "c" / "1" / "1" / "1").write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"a\.zarr.*\(8, 8, 8\).*can't be read"):
        find_patches(tmp_path / "a.zarr", (8, 8, 8))
    assert array.shape == (16, 16, 16)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param({"min_bbox_percent": 95}, r"min_bbox_percent is a fraction from 0 to 1, got 95", id="percent"),
        pytest.param({"min_labeled_ratio": -0.1}, r"min_labeled_ratio is a fraction", id="negative"),
        pytest.param({"ignore_label": float("nan")}, r"ignore_label must be a number other than 0, got nan", id="nan"),
        pytest.param({"ignore_label": 0}, r"ignore_label must be a number other than 0, got 0", id="background"),
        pytest.param({"patch_size": (8, 8)}, r"patch_size must be three positive integers .* got \(8, 8\)", id="two"),
        pytest.param({"patch_size": (8, 0, 8)}, r"patch_size must be three positive integers", id="zero"),
        pytest.param({"patch_size": (8, 8.5, 8)}, r"patch_size must be three positive integers", id="fraction"),
    ],
)
def test_arguments_out_of_range_are_named(arguments, words) -> None:
    with pytest.raises(ConfigError, match=words):
        find_patches(np.ones((16, 16, 16)), **{"patch_size": (8, 8, 8), **arguments})


@pytest.mark.parametrize(
    ("shape", "labelled", "words"),
    [
        pytest.param((16, 16, 16), None, r"label is empty", id="empty"),
        pytest.param((16, 16, 16), (4, 12, 12), r"\(4, 12, 12\) .* at \(1, 1, 1\).*patch_size \(8, 8, 8\)", id="small"),
        pytest.param((16, 4, 16), (4, 4, 4), r"volume, \(16, 4, 16\).*patch_size \(8, 8, 8\)", id="volume"),
        pytest.param((16, 16), None, r"three axes \(Z, Y, X\), got the shape \(16, 16\)", id="2-D"),
    ],
)
def test_labels_that_cannot_work_are_named(tmp_path, shape, labelled, words) -> None:
    label = np.zeros(shape, np.uint8)
    if labelled:
        label[tuple(slice(1, 1 + edge) for edge in labelled)] = 1
    stored(label, (8,) * len(shape), store=tmp_path / "label.zarr")
    for given_label in (tmp_path / "label.zarr", zarr.open_array(tmp_path / "label.zarr", mode="r")):
        with pytest.raises(DataError, match=rf"label\.zarr: .*{words}"):
            find_patches(given_label, (8, 8, 8))


@pytest.mark.parametrize(
    ("place", "words"),
    [
        pytest.param("nowhere.zarr", r"no Zarr array or group found", id="missing"),
        pytest.param("group.zarr", r"without OME-Zarr levels; add .* arrays: \['mask'\]", id="group"),
    ],
)
def test_places_without_an_array_are_named(tmp_path, place, words) -> None:
    zarr.open_group(tmp_path / "group.zarr", mode="w").create_array("mask", shape=(4, 4, 4), dtype="uint8")
    with pytest.raises(DataError, match=words):
        find_patches(tmp_path / place, (8, 8, 8))


@pytest.mark.parametrize(("value", "warned"), [(255, False), (-1, True), (256, True), (1.5, True)])
def test_an_ignore_label_that_the_label_can_not_have_is_named(caplog, value, warned) -> None:
    find_patches(np.ones((16, 16, 16), np.uint8), (8, 8, 8), ignore_label=value)
    assert (f"ignore_label {value:g} is none of its values, which are uint8" in caplog.text) == warned
