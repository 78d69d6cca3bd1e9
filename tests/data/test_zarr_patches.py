from __future__ import annotations

import functools
import http.server
import os
import pickle
import re
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from monai.data import DataLoader, MetaTensor
from monai.transforms import Compose, RandFlipd
from two_processes import clean_context
from zarr_archives import break_names

from monai_ext.data import SeededLoader, ZarrPatchDataset, find_patches, zarr_fast
from monai_ext.data.volumes_zarr import open_volume, stored_chunks
from monai_ext.errors import ConfigError, DataError
from monai_ext.surface import volume_sets

SHAPE, SIZE = (20, 24, 28), (8, 10, 12)
STARTS = [(0, 0, 0), (5, 7, 9), (12, 14, 16)]
TARGETS = {"sheet": {"channels": 1}, "normals": {"channels": 3}}
LAYOUTS = {
    "v2": {"chunks": (8, 8, 8), "zarr_format": 2},
    "v3": {"chunks": (7, 9, 11)},
    "sharded": {"chunks": (4, 4, 4), "shards": (16, 12, 8)},
}


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Files and parts of them, but no lists."""

    def do_GET(self) -> None:
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        path = Path(self.translate_path(self.path))
        if not wanted or not path.is_file():
            return super().do_GET()
        content = path.read_bytes()
        first, last = (int(text) if text else None for text in wanted.groups())
        part = content[-last:] if first is None else content[first : None if last is None else last + 1]
        self.send_response(206)
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, *args) -> None:
        pass

    def list_directory(self, path):
        self.send_error(403)


@pytest.fixture
def serve():
    """Call it with a folder for its URL."""
    servers = []

    def start(folder: Path) -> str:
        handler = functools.partial(QuietHandler, directory=str(folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def content() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "input": rng.integers(0, 65536, SHAPE).astype(np.uint16),
        "sheet": rng.integers(0, 2, SHAPE).astype(np.uint8) * 255,
        "normals": rng.integers(0, 65536, (*SHAPE, 3)).astype(np.uint16),
    }


def write(root: str | Path, content: dict[str, np.ndarray], **options) -> dict[str, str]:
    """A set below ``root``."""
    options = {"chunks": (8, 8, 8), **options}
    for name, values in content.items():
        whole = {key: edges + values.shape[3:] for key, edges in options.items() if isinstance(edges, tuple)}
        place = f"{root}/{name}.zarr"
        zarr.create_array(place, shape=values.shape, dtype=values.dtype, **{**options, **whole})[...] = values
    return {name: f"{root}/{name}.zarr" for name in content}


def expect(item: dict, content: dict[str, np.ndarray], start=STARTS[1]) -> None:
    """The item is what numpy cuts out."""
    where = tuple(slice(first, first + edge) for first, edge in zip(start, SIZE, strict=True))
    np.testing.assert_array_equal(item["image"].numpy(), content["input"][where][None])
    np.testing.assert_array_equal(item["sheet"].numpy(), content["sheet"][where][None])
    np.testing.assert_array_equal(item["normals"].numpy(), np.moveaxis(content["normals"][where], -1, 0))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_items_are_channel_first_patches(tmp_path, content, layout) -> None:
    folder = tmp_path / "é x"
    dataset = ZarrPatchDataset([write(folder, content, **LAYOUTS[layout])], SIZE, STARTS)
    assert len(dataset) == 3
    for index, start in enumerate(STARTS):
        expect(dataset[index], content, start)
    item = dataset[1]
    assert {name: item[name].dtype for name in ("image", "sheet", "normals")} == {
        "image": torch.float32,
        "sheet": torch.uint8,
        "normals": torch.uint16,
    }
    assert isinstance(item["image"], MetaTensor)
    assert (item["case"], item["start_pos"], item["volume_idx"]) == ("volume 0 at 5 7 9", (5, 7, 9), 0)


@pytest.mark.parametrize("version", [2, 3], ids=["OME-Zarr 0.4", "OME-Zarr 0.5"])
def test_levels_of_ome_zarr_images(tmp_path, content, version) -> None:
    for name, values in content.items():
        group = zarr.open_group(tmp_path / f"{name}.zarr", mode="w", zarr_format=version)
        group.create_array("0", shape=tuple(2 * edge for edge in SHAPE), chunks=SHAPE, dtype="uint8")
        group.create_array("1", shape=values.shape, chunks=values.shape, dtype=values.dtype)[...] = values
        levels = {"multiscales": [{"datasets": [{"path": "0"}, {"path": "1"}]}]}
        group.attrs.update(levels if version == 2 else {"ome": levels})
    sets = volume_sets(tmp_path, TARGETS, SIZE, level=1)
    expect(ZarrPatchDataset(sets, SIZE, STARTS)[1], content)


def test_channels_first_arrays_and_several_volumes(tmp_path, content) -> None:
    other = {**content, "input": content["input"][::-1], "normals": np.moveaxis(content["normals"], -1, 0)}
    sets = [write(tmp_path / "a", content), write(tmp_path / "b", {k: v for k, v in other.items() if k != "normals"})]
    zarr.create_array(tmp_path / "b" / "normals.zarr", shape=(3, *SHAPE), dtype="uint16")[...] = other["normals"]
    sets[1]["normals"] = str(tmp_path / "b" / "normals.zarr")
    sets[1]["ref_label"] = "nowhere"
    positions = [{"volume_idx": 1, "start_pos": [5, 7, 9], "case": "mine", "stamp": "x"}]
    item = ZarrPatchDataset(sets, SIZE, positions)[0]
    expect(item, {**content, "input": other["input"]})
    assert item["case"] == "mine"
    assert "ref_label" not in item


def test_memory_stores(content) -> None:
    expect(ZarrPatchDataset([write("memory://reader", content, overwrite=True)], SIZE, STARTS)[1], content)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_http_servers_that_list_nothing(tmp_path, content, serve, layout) -> None:
    write(tmp_path / "a b", content, **LAYOUTS[layout])
    url = serve(tmp_path)
    volumes = [{name: f"{url}/a%20b/{name}.zarr" for name in content}]
    sets = volume_sets(tmp_path, TARGETS, SIZE, volumes)
    expect(ZarrPatchDataset(sets, SIZE, STARTS)[1], content)
    label = open_volume(sets[0]["ref_label"])
    assert len(stored_chunks(label)) == len(stored_chunks(open_volume(tmp_path / "a b" / "sheet.zarr")))
    assert find_patches(sets[0]["ref_label"], SIZE, 0, 0) == find_patches(content["sheet"], SIZE, 0, 0)


def test_chunks_under_other_names_are_found_on_such_servers_too(tmp_path, content, serve) -> None:
    write(tmp_path, content)
    url = f"{serve(tmp_path)}/input.zarr"
    assert open_volume(url).shape == SHAPE
    break_names(tmp_path / "input.zarr")
    with pytest.raises(
        DataError, match=r"input\.zarr: its metadata names its chunks like '0\.0\.0', but there is '\d/"
    ):
        open_volume(url)


def test_a_lost_server_is_named(tmp_path, content, serve) -> None:
    write(tmp_path, content)
    url = serve(tmp_path)
    dataset = ZarrPatchDataset([{"input": f"{url}/input.zarr"}], SIZE, STARTS)
    assert dataset[0]["image"].shape == (1, *SIZE)
    dataset.volumes[0]["input"] = "http://127.0.0.1:9/input.zarr"
    with pytest.raises(DataError, match=r"http://127\.0\.0\.1:9/input\.zarr"):
        dataset[1]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("damage", [b"", b"nonsense"], ids=["empty", "nonsense"])
def test_a_damaged_chunk_is_named_with_the_position(tmp_path, content, layout, damage) -> None:
    sets = [write(tmp_path, content, **LAYOUTS[layout])]
    files = [path for path in (tmp_path / "sheet.zarr").rglob("*") if path.is_file() and path.name[0].isdigit()]
    for file in files:
        file.write_bytes(damage)
    with pytest.raises(DataError, match=r"sheet\.zarr: the patch at \(5, 7, 9\) can't be read"):
        ZarrPatchDataset(sets, SIZE, STARTS)[1]


@pytest.mark.parametrize("bad", [np.nan, np.inf], ids=str)
def test_values_that_are_not_finite_are_named(tmp_path, content, bad) -> None:
    values = content["input"].astype(np.float32)
    values[6, 8, 10] = bad
    dataset = ZarrPatchDataset([write(tmp_path, {"input": values})], SIZE, [STARTS[2], STARTS[1]])
    assert dataset[0]["image"].dtype == torch.float32
    with pytest.raises(DataError, match=r"input\.zarr: the patch at \(5, 7, 9\) has 1 of 960 values that are NaN"):
        dataset[1]


def test_a_patch_beyond_the_end_is_named(tmp_path, content) -> None:
    with pytest.raises(DataError, match=r"the patch at \(13, 0, 0\) reaches beyond the volume's end"):
        ZarrPatchDataset([write(tmp_path, content)], SIZE, [(13, 0, 0)])[0]


@pytest.mark.parametrize(
    ("volumes", "position", "words"),
    [
        (1, (-1, 0, 0), r"no patch can start at \(-1, 0, 0\)"),
        (1, (0, 0), r"no patch can start at \(0, 0\)"),
        (1, {"volume_idx": 1, "start_pos": (0, 0, 0)}, r"of volume 1; .*from 0 to 0"),
        (2, (0, 0, 0), r"volume_idx with \(0, 0, 0\): there are 2 volumes"),
    ],
    ids=["negative", "two", "no such volume", "which volume"],
)
def test_positions_that_name_nothing_are_refused(volumes, position, words) -> None:
    with pytest.raises(ConfigError, match=words):
        ZarrPatchDataset([{"input": "x"}] * volumes, SIZE, [position])


def test_only_chunks_under_the_patch_are_read(tmp_path, content) -> None:
    sets = [write(tmp_path, content)]
    for name in content:
        for file in (tmp_path / f"{name}.zarr" / "c").rglob("*"):
            if file.is_file() and file.relative_to(tmp_path / f"{name}.zarr" / "c").parts[0] == "2":
                file.write_bytes(b"nonsense")
    expect(ZarrPatchDataset(sets, SIZE, STARTS)[1], content)


def test_a_read_only_folder_serves(tmp_path, content) -> None:
    sets = [write(tmp_path / "data", content)]
    folders = [tmp_path / "data", *(path for path in (tmp_path / "data").rglob("*") if path.is_dir())]
    before = sorted((tmp_path / "data").rglob("*"))
    for folder in folders:
        folder.chmod(0o555)
    try:
        expect(ZarrPatchDataset(sets, SIZE, STARTS)[1], content)
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert sorted((tmp_path / "data").rglob("*")) == before


def test_a_pickle_carries_no_handles(tmp_path, content) -> None:
    dataset = ZarrPatchDataset([write(tmp_path, content)], SIZE, STARTS)
    size = len(pickle.dumps(dataset))
    expect(dataset[1], content)
    assert len(pickle.dumps(dataset)) == size
    expect(pickle.loads(pickle.dumps(dataset))[1], content)


@pytest.mark.parametrize(
    ("context", "layout"),
    [("fork", "v3"), ("fork", "sharded"), pytest.param("clean", "sharded", marks=pytest.mark.slow)],
)
def test_workers_give_the_same_items(tmp_path, content, layout, context) -> None:
    dataset = ZarrPatchDataset([write(tmp_path, content, **LAYOUTS[layout])], SIZE, STARTS)
    plain = list(DataLoader(dataset, batch_size=1))  # has stores open when the workers start
    start = clean_context() if context == "clean" else context
    batches = list(DataLoader(dataset, batch_size=1, num_workers=2, multiprocessing_context=start, timeout=60))
    assert len(plain) == len(batches) == 3
    for one, other in zip(plain, batches, strict=True):
        assert one["case"] == other["case"]
        for name in ("image", "sheet", "normals"):
            assert torch.equal(one[name], other[name])


def test_random_transforms_are_seeded_by_epoch_and_index(tmp_path, content) -> None:
    sets = [write(tmp_path, content)]
    keys = ["image", "sheet", "normals"]
    loaders = [
        SeededLoader(ZarrPatchDataset(sets, SIZE, STARTS * 4, Compose([RandFlipd(keys, 0.5, 0)])), 1, seed=seed)
        for seed in (3, 3, 4)
    ]
    runs = [torch.cat([batch["image"] for batch in loader]) for loader in loaders]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def pipeline(array: zarr.Array) -> str:
    return type(array.async_array.codec_pipeline).__name__


def test_zarrs_reads_sharded_local_arrays_only(tmp_path, content) -> None:
    pytest.importorskip("zarrs")
    sharded = write(tmp_path / "s", content, **LAYOUTS["sharded"])["input"]
    others = [
        write(tmp_path / "v3", content)["input"],
        write("memory://fast", content, overwrite=True, **LAYOUTS["sharded"])["input"],
    ]
    before = zarr.config.get("codec_pipeline.path")
    assert pipeline(zarr_fast.open_fast(sharded)) == "ZarrsCodecPipeline"
    assert {pipeline(zarr_fast.open_fast(place)) for place in others} == {"BatchedCodecPipeline"}
    assert pipeline(zarr.open_array(sharded, mode="r")) == "BatchedCodecPipeline"
    assert zarr.config.get("codec_pipeline.path") == before


def test_a_process_forked_after_zarrs_has_read_can_read(tmp_path, content) -> None:
    pytest.importorskip("zarrs")
    place = write(tmp_path, content, **LAYOUTS["sharded"])["input"]
    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):  # also where others use it
        zarr.open_array(place, mode="r")[...]
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(60)
        read = zarr_fast.open_fast(place)[...]
        os._exit(0 if np.array_equal(read, content["input"]) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_without_zarrs_zarr_reads(tmp_path, content, monkeypatch) -> None:
    place = write(tmp_path, content, **LAYOUTS["sharded"])["input"]
    monkeypatch.setattr(zarr_fast, "_installed", lambda: False)
    assert pipeline(zarr_fast.open_fast(place)) == "BatchedCodecPipeline"


def test_what_zarrs_cannot_open_zarr_reads(tmp_path, content, monkeypatch, caplog) -> None:
    place = write(tmp_path, content, **LAYOUTS["sharded"])["input"]
    monkeypatch.setattr(zarr_fast, "_installed", lambda: True)
    monkeypatch.setattr(zarr_fast, "_PIPELINE", "no.such.pipeline")
    array = zarr_fast.open_fast(place)
    np.testing.assert_array_equal(array[...], content["input"])
    assert "read without zarrs" in caplog.text
