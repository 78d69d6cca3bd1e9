from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from ome_zarr_models.v05.image import Image

from monai_ext.data import decode_normals, find_patches
from monai_ext.data.volumes_zarr import open_volume, stored_chunks
from monai_ext.errors import ConfigError, DataError
from monai_ext.surface import demo

SMALL = demo.SIZES["small"]
TINY = demo.Size((128, 64, 160), (16, 24, 24), (2, 1, 2), pitch=8.0, thickness=3.5)


@pytest.fixture(scope="module")
def scroll(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo.make_demo(tmp_path_factory.mktemp("demo") / "surface") / "scroll_1"


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quick to make; as wide as one block and a part of another."""
    monkeypatch.setitem(demo.SIZES, "small", TINY)


def box(*starts: int, edge: int = 24) -> demo.Box:
    z, y, x = (slice(start, start + edge) for start in starts)
    return z, y, x


def test_the_input_is_a_valid_sharded_ome_zarr_image(scroll: Path) -> None:
    group = zarr.open_group(scroll / "input.zarr", mode="r")
    image = Image.from_zarr(group)
    assert [dataset.path for dataset in image.ome_attributes.multiscales[0].datasets] == ["0", "1", "2"]
    shapes = [open_volume(scroll / "input.zarr", level).shape for level in range(3)]
    assert shapes == [SMALL.shape, (64, 128, 128), (32, 64, 64)]
    finest = open_volume(scroll / "input.zarr")
    assert (finest.dtype, finest.shards) == (np.uint8, (128, 128, 128))
    assert finest.metadata.to_dict()["codecs"][0]["configuration"]["codecs"][1] == {
        "name": "zstd",
        "configuration": {"level": 3, "checksum": True},
    }
    assert sum(file.stat().st_size for file in (scroll / "input.zarr").rglob("*") if file.is_file()) < 10e6


def test_coarser_levels_are_means(scroll: Path) -> None:
    finest, coarser, _ = (open_volume(scroll / "input.zarr", level)[:] for level in range(3))
    means = finest.reshape(64, 2, 128, 2, 128, 2).mean(axis=(1, 3, 5))
    assert np.abs(coarser - means).max() <= 0.5


def test_labels_have_the_formats_of_the_data_source(scroll: Path) -> None:
    sheet, normals = (zarr.open_array(scroll / f"{name}.zarr", mode="r") for name in ("sheet", "normals"))
    assert (sheet.metadata.zarr_format, sheet.shape, sheet.dtype) == (3, SMALL.shape, np.uint8)
    assert (normals.metadata.zarr_format, normals.shape, normals.dtype) == (2, (*SMALL.shape, 3), np.uint16)
    assert set(np.unique(sheet[:])) == {0, 255}
    labelled = sheet[:] > 0
    assert np.array_equal(normals[:].any(axis=-1), labelled)
    assert np.abs(np.linalg.norm(decode_normals(normals[:])[labelled], axis=-1) - 1).max() < 1e-4


def test_labels_are_stored_around_the_regions_only(scroll: Path) -> None:
    regions = np.zeros(SMALL.shape, bool)
    for region in SMALL.boxes():
        regions[region] = True
    sheet = zarr.open_array(scroll / "sheet.zarr", mode="r")
    assert not (sheet[:] > 0)[~regions].any()
    assert 0.2 < (sheet[:] > 0)[regions].mean() < 0.5
    stored = stored_chunks(sheet) * demo.CHUNK
    assert len(stored) < 0.6 * sheet.nchunks
    assert all(regions[tuple(slice(s, s + demo.CHUNK) for s in start)].any() for start in stored)


@pytest.mark.parametrize("name", ["small", "full"])
def test_no_patch_touches_two_regions(name: str) -> None:
    size = demo.SIZES[name]
    starts = np.array([[part.start for part in region] for region in size.boxes()])
    stops = np.array([[part.stop for part in region] for region in size.boxes()])
    assert len(starts) >= 6
    assert (starts >= 0).all()
    assert (stops <= size.shape).all()
    gaps = np.maximum(starts[:, None] - stops, starts - stops[:, None])
    apart = (gaps >= size.patch).any(axis=-1)
    assert apart[~np.eye(len(starts), dtype=bool)].all()


def test_each_region_has_patches(scroll: Path) -> None:
    found = find_patches(scroll / "sheet.zarr", SMALL.patch)
    for region in SMALL.boxes():
        inside = [
            all(part.start <= s and s + p <= part.stop for s, p, part in zip(start, SMALL.patch, region, strict=True))
            for start in found
        ]
        assert sum(inside) == 8
    assert len(found) == 8 * len(SMALL.boxes())


def test_normals_are_the_gradient_of_the_turns_and_point_outwards() -> None:
    scroll, place = demo.Scroll(0, SMALL), box(40, 150, 60)
    turns = scroll.turns(place)[0].astype(np.float64)
    # away from where the count of turns jumps by one
    numeric = np.stack(np.gradient(turns)[::-1], axis=-1)
    numeric /= np.linalg.norm(numeric, axis=-1, keepdims=True)
    _, normals = scroll.sheets(place)
    cosine = (numeric * normals)[1:-1, 1:-1, 1:-1].sum(axis=-1)
    assert cosine.min() > 0.999
    outwards = np.array([np.mean([60, 83]) - scroll.centre[1], np.mean([150, 173]) - scroll.centre[0]])
    assert (normals[..., :2] @ outwards > 0).all()


def test_a_voxel_is_labelled_within_half_a_thickness_of_a_sheet() -> None:
    """Walking along the normal by the distance ends where the turns are an integer."""
    scroll, place = demo.Scroll(3, SMALL), box(0, 20, 200)
    distance, normals = scroll.sheets(place)
    points = np.argwhere(np.abs(distance) < 1.75)[::97]
    for point in points:
        z, y, x = point + [part.start for part in place] - distance[tuple(point)] * normals[tuple(point)][::-1]
        turns = scroll.waves.value([np.array([z]), np.array([y]), np.array([x])])[0, 0, 0]
        turns += np.hypot(y - scroll.centre[0], x - scroll.centre[1])
        turns = turns / SMALL.pitch - np.arctan2(y - scroll.centre[0], x - scroll.centre[1]) / (2 * np.pi)
        assert abs(turns - round(turns)) * SMALL.pitch < 0.15


def test_any_box_of_a_scroll_can_be_made_by_itself() -> None:
    scroll = demo.Scroll(0, SMALL)
    whole, _ = scroll.sheets(box(10, 100, 30, edge=40))
    part, _ = scroll.sheets(box(18, 108, 38))
    np.testing.assert_allclose(whole[8:32, 8:32, 8:32], part, atol=1e-3)


def test_the_image_tells_which_way_normals_point(scroll: Path) -> None:
    """Sheets are bright on the side of the axis, dark just before it, and fade on the other side."""
    image = open_volume(scroll / "input.zarr")[:]
    generator = demo.Scroll(0, SMALL)
    for region in SMALL.boxes():
        distance, _ = generator.sheets(region)
        grey = [image[region][np.abs(distance - at) < 0.4].mean() for at in (-3.0, -1.3, 0.0, 1.3, 3.0)]
        assert grey[1] > grey[2] > grey[3] > grey[4]
        assert grey[1] - grey[0] > 60
        assert abs(grey[4] - grey[0]) < 15


@pytest.mark.usefixtures("tiny")
def test_same_seed_gives_the_same_bytes_and_is_kept(tmp_path: Path) -> None:
    first, second = (demo.make_demo(tmp_path / name) for name in ("a", "b"))
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert len(files) > 20
    assert all((first / file).read_bytes() == (second / file).read_bytes() for file in files)
    stamp = (first / files[0]).stat().st_mtime_ns
    demo.make_demo(first)
    assert (first / files[0]).stat().st_mtime_ns == stamp
    with pytest.raises(DataError, match="exists already and is not this demo"):
        demo.make_demo(first, seed=1)


@pytest.mark.usefixtures("tiny")
def test_killed_generator_leaves_nothing_that_looks_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "encode_normals", stop)
    with pytest.raises(KeyboardInterrupt):
        demo.make_demo(tmp_path / "surface")
    assert not (tmp_path / "surface").exists()
    monkeypatch.undo()
    monkeypatch.setitem(demo.SIZES, "small", TINY)
    demo.make_demo(tmp_path / "surface")
    assert [path.name for path in tmp_path.iterdir()] == ["surface"]


def test_unknown_sizes_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'huge'"):
        demo.make_demo(tmp_path, size="huge")
