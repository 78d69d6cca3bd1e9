"""Zarr volumes as archives have them: other axes, zipped, and metadata that doesn't fit or can't be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

from monai_ext.data import find_patches
from monai_ext.data.found_volume import volume_space
from monai_ext.data.volumes_zarr import array_source, open_volume, stored_chunks, volume_identity
from monai_ext.data.zarr_fast import open_fast
from monai_ext.errors import DataError

SHAPE = (6, 8, 10)
VALUES = np.random.default_rng(0).integers(1, 255, (2, 3, *SHAPE)).astype(np.uint8)
NAMES = {"t": 0, "c": 1, "z": 2, "y": 3, "x": 4}
SCALE = {"t": 7.0, "c": 1.0, "z": 3.0, "y": 2.0, "x": 0.5}


def ome(root: Path, axes: str, version: int = 2, counts: tuple[int, int] = (2, 3), named: bool = True) -> np.ndarray:
    """An OME-Zarr image with these axes, two levels; gives the values in the order of `NAMES`."""
    values = VALUES[: counts[0] if "t" in axes else 1, : counts[1] if "c" in axes else 1]
    places = [NAMES[axis] for axis in axes]
    ordered = values.transpose(*places, *(place for place in range(5) if place not in places))
    ordered = ordered.reshape(ordered.shape[: len(axes)])
    group = zarr.open_group(root, mode="w", zarr_format=version)
    datasets = []
    for level in (0, 1):
        stored = ordered[tuple(slice(None, None, 1 + level if axis in "zyx" else None) for axis in axes)]
        chunks = tuple(4 if axis in "zyx" else 2 for axis in axes)
        group.create_array(str(level), data=np.ascontiguousarray(stored), chunks=chunks)
        scale = [SCALE[axis] * (1 + level) if axis in "zyx" else SCALE[axis] for axis in axes]
        steps = [
            {"type": "scale", "scale": scale},
            {"type": "translation", "translation": [float(place) for place in places]},
        ]
        datasets.append({"path": str(level), "coordinateTransformations": steps})
    kinds = {"t": "time", "c": "channel"}
    entries = [
        {"name": axis, "type": kinds.get(axis, "space"), **({"unit": "micrometer"} if axis in "zyx" else {})}
        for axis in axes
    ]
    image = {"version": "0.4", "datasets": datasets, **({"axes": entries} if named else {})}
    group.attrs.update({"multiscales": [image]} if version == 2 else {"ome": {"multiscales": [image]}})
    return values


@pytest.mark.parametrize("version", [2, 3], ids=["0.4", "0.5"])
@pytest.mark.parametrize("axes", ["zyx", "tczyx", "czyx", "tzyx", "xyz", "zyxc", "cyxtz"])
def test_axes_are_read_by_their_names(tmp_path, axes, version) -> None:
    values = ome(tmp_path / "a.zarr", axes, version)
    chosen = {"channel": 1 if "c" in axes else None, "timepoint": 1 if "t" in axes else None}
    expected = values[1 if "t" in axes else 0, 1 if "c" in axes else 0]
    for source in (tmp_path / "a.zarr", tmp_path / "a.zarr" / "0"):
        volume = open_volume(source, **chosen)
        assert volume.shape == SHAPE
        np.testing.assert_array_equal(volume[...], expected)
        np.testing.assert_array_equal(volume[1:5, :3], expected[1:5, :3])
        space = volume_space(source)
        assert space == ((3.0, 2.0, 0.5), (2.0, 3.0, 4.0), ("micrometer",) * 3)
    coarse = array_source(tmp_path / "a.zarr", 1, **chosen)
    np.testing.assert_array_equal(open_fast(coarse)[...], expected[::2, ::2, ::2])
    assert volume_space(coarse).scale == (6.0, 4.0, 1.0)


@pytest.mark.parametrize("axes", ["czyx", "tczyx"])
def test_single_channels_and_timepoints_need_no_choice_and_no_names(tmp_path, axes) -> None:
    values = ome(tmp_path / "a.zarr", axes, counts=(1, 1), named=False)
    np.testing.assert_array_equal(open_volume(tmp_path / "a.zarr")[...], values[0, 0])
    zarr.create_array(tmp_path / "b.zarr", data=values[0, 0][..., None])
    np.testing.assert_array_equal(open_volume(tmp_path / "b.zarr")[...], values[0, 0])


def test_a_choice_can_stand_behind_the_path(tmp_path) -> None:
    values = ome(tmp_path / "a.zarr", "tczyx")
    place = array_source(tmp_path / "a.zarr#channel=2", channel=0, timepoint=1)
    assert place == f"{tmp_path / 'a.zarr'}/0#channel=2,timepoint=1"
    np.testing.assert_array_equal(open_volume(place)[...], values[1, 2])
    identities = [volume_identity(tmp_path / "a.zarr", channel=number, timepoint=1) for number in (1, 2)]
    assert identities[0] != identities[1] == volume_identity(place)
    # named like a choice, but a folder
    zarr.create_array(tmp_path / "b#1.zarr", data=values[0, 0])
    np.testing.assert_array_equal(open_volume(tmp_path / "b#1.zarr")[...], values[0, 0])


def test_the_dimension_names_of_an_array_count(tmp_path) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=VALUES[0, 0].T, dimension_names=["x", "y", "z"])
    np.testing.assert_array_equal(open_volume(tmp_path / "a.zarr")[...], VALUES[0, 0])
    zarr.create_array(tmp_path / "b.zarr", data=VALUES[0, 0], dimension_names=["depth", "row", "column"])
    np.testing.assert_array_equal(open_volume(tmp_path / "b.zarr")[...], VALUES[0, 0])


@pytest.mark.parametrize("path", ["scale/0", "0/", "./0"])
def test_a_level_has_the_axes_of_its_image_wherever_it_lies_in_it(tmp_path, path, monkeypatch) -> None:
    ome(tmp_path / "a.zarr", "xyz")
    attributes = json.loads((tmp_path / "a.zarr" / ".zattrs").read_text())
    attributes["multiscales"][0]["datasets"][0]["path"] = path
    (tmp_path / "a.zarr" / ".zattrs").write_text(json.dumps(attributes))
    if path == "scale/0":
        (tmp_path / "a.zarr" / "scale").mkdir()
        (tmp_path / "a.zarr" / "0").rename(tmp_path / "a.zarr" / "scale" / "0")
    monkeypatch.chdir(tmp_path / "a.zarr")
    # the last three are what a training opens, and what a user may type
    for place in (tmp_path / "a.zarr", array_source(tmp_path / "a.zarr"), tmp_path / "a.zarr" / path, path):
        np.testing.assert_array_equal(open_volume(place)[...], VALUES[0, 0])
        assert volume_space(place).scale == (3.0, 2.0, 0.5)


def test_chunks_of_a_relative_path_that_is_also_in_their_names_are_found(tmp_path, monkeypatch) -> None:
    zarr.create_array(tmp_path / "0", data=VALUES[0, 0], chunks=(2, 2, 2))
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(stored_chunks(open_volume("0")), stored_chunks(open_volume(tmp_path / "0")))


@pytest.mark.parametrize(
    "names",
    [["time", "channel", "x", "y", "z"], ["width", "height", "depth"], ["x", "y", "z", "band"], ["b", "z", "y", "x"]],
    ids=" ".join,
)
def test_dimension_names_in_words_count_and_an_unknown_one_beside_z_y_and_x_is_the_channel(tmp_path, names) -> None:
    space = {"x": 2, "y": 1, "z": 0, "width": 2, "height": 1, "depth": 0}
    values = VALUES[0, 0].transpose([space[name] for name in names if name in space])
    values = np.expand_dims(values, [axis for axis, name in enumerate(names) if name not in space])
    zarr.create_array(tmp_path / "a.zarr", data=values, dimension_names=names)
    np.testing.assert_array_equal(open_volume(tmp_path / "a.zarr")[...], VALUES[0, 0])


@pytest.mark.parametrize("names", [["x", "y", None], ["x", "row", "z"], ["x", "y", "z", "a", "b"]], ids=str)
def test_dimension_names_of_which_only_some_are_known_are_refused_in_another_order(tmp_path, names) -> None:
    values = VALUES[0, 0].reshape((1,) * (len(names) - 3) + SHAPE)
    zarr.create_array(tmp_path / "a.zarr", data=values, dimension_names=names)
    with pytest.raises(DataError, match=r"a\.zarr.*beside z, y and x there may be t and c"):
        open_volume(tmp_path / "a.zarr")


def test_values_that_are_no_numbers_are_refused(tmp_path) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=VALUES[0, 0].astype(np.complex64))
    with pytest.raises(DataError, match=r"a\.zarr: holds values of type complex64; integers or floats are needed"):
        open_volume(tmp_path / "a.zarr")


@pytest.mark.parametrize(
    ("axes", "choice", "words"),
    [
        pytest.param("czyx", {}, r"3 channels .*choose one by --channel 0 to 2", id="channels"),
        pytest.param("tzyx", {}, r"2 timepoints .*choose one by --timepoint 0 to 1", id="timepoints"),
        pytest.param("czyx", {"channel": 3}, "there is no channel 3", id="out of range"),
        pytest.param("zyx", {"channel": 1}, "has no channel 1", id="no such axis"),
        pytest.param("cyx", {}, r"three axes \(Z, Y, X\)", id="no Z"),
    ],
)
def test_what_has_to_be_chosen_is_named(tmp_path, axes, choice, words) -> None:
    if "z" in axes:
        ome(tmp_path / "a.zarr", axes)
    else:
        zarr.create_array(tmp_path / "a.zarr", data=VALUES[0, 0], dimension_names=list(axes))
    with pytest.raises(DataError, match=rf"a\.zarr.*{words}"):
        open_volume(tmp_path / "a.zarr", **choice)


def test_targets_keep_their_channels_in_front(tmp_path) -> None:
    values = ome(tmp_path / "a.zarr", "tzyxc", counts=(1, 3))
    np.testing.assert_array_equal(open_volume(tmp_path / "a.zarr", channels=True)[...], values[0])


@pytest.mark.parametrize("axes", ["xyz", "czyx"])
def test_patches_are_those_of_the_plain_volume_and_only_stored_chunks_count(tmp_path, axes) -> None:
    label = np.zeros((3, *SHAPE), np.uint8)
    label[:, 2:, :4, 3:] = VALUES[0, :, 2:, :4, 3:]
    own = {"axes": "xyz", "data": label[2].T} if axes == "xyz" else {"axes": "czyx", "data": label}
    names = list(own.pop("axes"))
    chunks = (4,) * 3 if axes == "xyz" else (2, 4, 4, 4)
    zarr.create_array(tmp_path / "a.zarr", chunks=chunks, dimension_names=names, **own)
    place = f"{tmp_path / 'a.zarr'}#channel=2" if axes == "czyx" else str(tmp_path / "a.zarr")
    plain = find_patches(label[2], (2, 4, 4), 0.5, 0.1)
    assert find_patches(place, (2, 4, 4), 0.5, 0.1) == plain != []
    assert sorted(map(tuple, stored_chunks(open_volume(place)).tolist())) == [
        (z, 0, x) for z in (0, 1) for x in (0, 1, 2)
    ]


# -- chunks that don't fit the metadata --------------------------------------------------------------------------


def rename_chunks(array: Path, how: str) -> None:
    """Store the chunks of a v2 array as another separator names them, or change what its metadata says."""
    metadata = json.loads((array / ".zarray").read_text())
    if how == "no separator":
        del metadata["dimension_separator"]
    elif how == "another separator":
        metadata["dimension_separator"] = "./"[metadata["dimension_separator"] == "."]
    (array / ".zarray").write_text(json.dumps(metadata))


LAYOUTS = {
    "nested, no separator": (
        {"zarr_format": 2, "chunk_key_encoding": {"name": "v2", "separator": "/"}},
        "no separator",
    ),
    "flat, read as nested": ({"zarr_format": 2}, "another separator"),
}


@pytest.fixture(params=[*LAYOUTS, "v3", "v3 dots"])
def misfit(request, tmp_path):
    """An array whose chunks have other names than its metadata says."""
    place = tmp_path / "a.zarr"
    if request.param in LAYOUTS:
        options, how = LAYOUTS[request.param]
        zarr.create_array(place, data=VALUES[0, 0], chunks=(4, 4, 4), **options)
        rename_chunks(place, how)
        return place
    zarr.create_array(place, data=VALUES[0, 0], chunks=(4, 4, 4))
    metadata = json.loads((place / "zarr.json").read_text())
    metadata["chunk_key_encoding"] = (
        {"name": "v2", "configuration": {"separator": "."}}
        if request.param == "v3"
        else {"name": "default", "configuration": {"separator": "."}}
    )
    (place / "zarr.json").write_text(json.dumps(metadata))
    return place


def test_chunks_under_other_names_are_refused(misfit) -> None:
    with pytest.raises(DataError, match=r"a\.zarr: its metadata names its chunks like '.*', but there is '.*; correct"):
        open_volume(misfit)
    with pytest.raises(DataError, match=r"a\.zarr: its metadata names its chunks like"):
        stored_chunks(zarr.open_array(misfit, mode="r"))


def test_other_files_beside_the_chunks_do_not_matter(tmp_path) -> None:
    for version in (2, 3):
        place = tmp_path / f"{version}.zarr"
        zarr.create_array(place, data=VALUES[0, 0], chunks=(4, 4, 4), zarr_format=version)
        for name in (".DS_Store", "README.md", ".zattrs.bak"):
            (place / name).touch()
        assert len(stored_chunks(open_volume(place))) == 12


def test_chunks_outside_of_the_shape_are_refused(tmp_path) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=VALUES[0, 0], chunks=(4, 4, 4))
    file = tmp_path / "a.zarr" / "zarr.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "shape": [6, 8, 5]}))
    with pytest.raises(
        DataError, match=r"4 of its 12 chunks, such as \(\d, \d, 2\), lie outside of the shape \(6, 8, 5\)"
    ):
        stored_chunks(open_volume(tmp_path / "a.zarr"))


# -- metadata that can't be --------------------------------------------------------------------------------------

WRONG_ARRAYS = {
    "chunk size 0": {"chunks": [0, 4, 4]},
    "negative chunks": {"chunks": [-4, 4, 4]},
    "a fraction": {"chunks": [1.5, 4, 4]},
    "no chunks": {"chunks": None},
    "too few": {"chunks": [4, 4]},
    "shape of text": {"shape": "x"},
    "no voxels": {"shape": [0, 8, 10]},
    "a grid of 10^15": {"shape": [10**15, 8, 10], "chunks": [1, 8, 10]},
    "a volume of 10^45": {"shape": [10**15] * 3, "chunks": [10**10] * 3},
    "one chunk of 10^15": {"shape": [10**5] * 3, "chunks": [10**5] * 3},
    "objects": {"dtype": "|O"},
    "unknown type": {"dtype": "zz"},
    "fill value": {"fill_value": "x"},
    "codec": {"compressor": {"id": "nowhere"}},
    "separator": {"dimension_separator": 3},
    "format": {"zarr_format": 9},
}


@pytest.mark.parametrize("change", WRONG_ARRAYS)
def test_wrong_metadata_of_an_array_is_named(tmp_path, change) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=VALUES[0, 0], chunks=(4, 4, 4), zarr_format=2)
    file = tmp_path / "a.zarr" / ".zarray"
    file.write_text(json.dumps({**json.loads(file.read_text()), **WRONG_ARRAYS[change]}))
    with pytest.raises(DataError, match=r"a\.zarr: "):
        open_volume(tmp_path / "a.zarr")


@pytest.mark.parametrize("text", ["", "[]", "7", "{", '{"zarr_format": 2}', "\x00"])
def test_metadata_that_are_no_object_are_named(tmp_path, text) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=VALUES[0, 0], zarr_format=2)
    (tmp_path / "a.zarr" / ".zarray").write_text(text)
    with pytest.raises(DataError, match=r"a\.zarr: "):
        open_volume(tmp_path / "a.zarr")


SCALED = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 2, 3]}]}
WRONG_IMAGES = {
    "outside": [{"datasets": [{"path": "../other.zarr"}]}],
    "absolute": [{"datasets": [{"path": "file:///other.zarr"}]}],
    "a number": [{"datasets": [{"path": 0}]}],
    "null": [{"datasets": [{"path": None}]}],
    "missing": [{"datasets": [{"path": "7"}]}],
    "the group itself": [{"datasets": [{"path": ""}]}],
    "no path": [{"datasets": [{}]}],
    "no datasets": [{}],
    "an empty list of datasets": [{"datasets": []}],
    "a unit that is a number": [{"datasets": [{"path": "0"}], "axes": [{"name": name, "unit": 5} for name in "zyx"]}],
    "axes of a later version": [
        {"datasets": [{"path": "0"}], "coordinateSystems": [{"axes": [{"name": name} for name in "xyz"]}]}
    ],
    "scale 0": [{"datasets": [{**SCALED, "coordinateTransformations": [{"type": "scale", "scale": [0, 1, 1]}]}]}],
    "null datasets": [{"datasets": None}],
    "a number for datasets": [{"datasets": 7}],
    "text": "text",
    "a number for all": 7,
    "levels of text": [{"datasets": ["0"]}],
    "axes": [{"datasets": [{"path": "0"}], "axes": [1, 2, 3]}],
    "two axes": [{"datasets": [{"path": "0"}], "axes": ["y", "x"]}],
    "the same axis": [{"datasets": [{"path": "0"}], "axes": ["z", "z", "x"]}],
    "an unknown axis": [{"datasets": [{"path": "0"}], "axes": ["a", "y", "x"]}],
    "scale of text": [{"datasets": [{**SCALED, "coordinateTransformations": [{"type": "scale", "scale": "abc"}]}]}],
    "scale NaN": [{"datasets": [{**SCALED, "coordinateTransformations": [{"type": "scale", "scale": ["nan"] * 3}]}]}],
    "two scales": [
        {"datasets": [SCALED], "axes": list("zyx"), "coordinateTransformations": [{"type": "scale", "scale": [2]}]}
    ],
    "steps of text": [{"datasets": [{**SCALED, "coordinateTransformations": "scale"}]}],
}


@pytest.mark.parametrize("image", WRONG_IMAGES)
def test_wrong_metadata_of_an_image_is_named(tmp_path, image) -> None:
    zarr.create_array(tmp_path / "other.zarr", data=VALUES[0, 0])
    ome(tmp_path / "a.zarr", "zyx")
    zarr.open_group(tmp_path / "a.zarr", mode="r+").attrs["multiscales"] = WRONG_IMAGES[image]
    with pytest.raises(DataError, match=r"a\.zarr.*: "):
        open_volume(tmp_path / "a.zarr")
    with pytest.raises(DataError, match=r"a\.zarr.*: "):
        volume_space(tmp_path / "a.zarr")


@pytest.mark.parametrize("attributes", [7, "text", [1], {"ome": 7, "multiscales": 7}], ids=str)
def test_attributes_that_are_no_object_are_named(tmp_path, attributes) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=VALUES[0, 0])
    file = tmp_path / "a.zarr" / "zarr.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "attributes": attributes}))
    if isinstance(attributes, dict):
        np.testing.assert_array_equal(open_volume(tmp_path / "a.zarr")[...], VALUES[0, 0])
        return
    with pytest.raises(DataError, match=r"a\.zarr: "):
        open_volume(tmp_path / "a.zarr")


# -- other containers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inside", [True, False], ids=["bare", "with its folder"])
@pytest.mark.parametrize("suffix", [".zip", ".ZIP"])
def test_zipped_stores_are_read_in_place(tmp_path, inside, suffix) -> None:
    values = ome(tmp_path / "a.zarr", "tczyx", counts=(1, 2))
    packed = shutil.make_archive(
        str(tmp_path / "packed"), "zip", tmp_path / "a.zarr" if inside else tmp_path, None if inside else "a.zarr"
    )
    shutil.rmtree(tmp_path / "a.zarr")
    file = Path(packed).rename(tmp_path / f"a.zarr{suffix}")
    place = array_source(file, 1, channel=1)
    assert place == f"{file}/1#channel=1"
    for source in (place, f"{file}/1#channel=1"):
        np.testing.assert_array_equal(open_volume(source)[...], values[0, 1, ::2, ::2, ::2])
    assert len(stored_chunks(open_volume(place))) == 2
    assert volume_space(place).scale == (6.0, 4.0, 1.0)
    before = volume_identity(place)
    assert before != volume_identity(file, 0, 1)
    file.write_bytes(file.read_bytes() + b"\0")
    assert volume_identity(place)["chunks"] != before["chunks"]


def test_n5_is_named(tmp_path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "attributes.json").write_text(json.dumps({"n5": "2.0.0"}))
    with pytest.raises(DataError, match=r"a: is N5, which isn't read; convert it to Zarr"):
        open_volume(tmp_path / "a")
    with pytest.raises(DataError, match="is N5"):
        open_volume(tmp_path / "b.n5" / "s0")


def test_damaged_archives_are_named(tmp_path) -> None:
    (tmp_path / "a.zip").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"a\.zip: is not a readable Zarr array or group"):
        open_volume(tmp_path / "a.zip")
