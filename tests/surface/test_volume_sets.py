from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import zarr

from monai_ext.data.volumes_zarr import array_source, channel_axis
from monai_ext.errors import ConfigError, DataError
from monai_ext.handlers.data_summary import dataset_hash
from monai_ext.surface import check, inference_items, patches, splits, volume_sets

SIZE = (8, 16, 16)


def ome_zarr(root: Path, version: str, shape: tuple[int, ...]) -> Path:
    """An OME-Zarr image with two levels."""
    group = zarr.open_group(root, mode="w", zarr_format=2 if version == "0.4" else 3)
    for level in (0, 1):
        edges = tuple(length >> level for length in shape[:3]) + shape[3:]
        group.create_array(f"s{level}", shape=edges, chunks=edges, dtype="uint8")[...] = level + 1
    entry = {"version": version, "datasets": [{"path": "s0"}, {"path": "s1"}]}
    group.attrs.update({"multiscales": [entry]} if version == "0.4" else {"ome": {"multiscales": [entry]}})
    return root


def test_folders_with_an_input_are_sets_in_natural_order(surface_dir, targets) -> None:
    (surface_dir / "notes").mkdir()
    sets = volume_sets(surface_dir, targets, SIZE)
    assert [Path(entry["input"]).parent.name for entry in sets] == ["scroll 2", "scroll 10"]
    assert sets[0]["ref_label"] == sets[0]["sheet"] == str(surface_dir / "scroll 2" / "sheet.zarr")
    assert list(sets[0]) == ["input", "sheet", "normals", "ref_label"]


def test_arrays_with_suffixes_in_capital_letters_are_read_and_two_of_one_name_refused(surface_dir, targets) -> None:
    folder = surface_dir / "scroll 2"
    for name in ("input", "sheet"):
        (folder / f"{name}.zarr").rename(folder / f"{name}.ZARR")
    first, second = volume_sets(surface_dir, targets, SIZE)
    assert first["input"] == str(folder / "input.ZARR")
    assert first["ref_label"] == first["sheet"] == str(folder / "sheet.ZARR")
    assert second["input"].endswith("input.zarr")
    assert volume_sets(surface_dir, targets, SIZE).left_out == []
    assert check(surface_dir, workers=1) == []
    items = inference_items(surface_dir)
    assert [(item["case"], Path(item["image"]).name) for item in items] == [
        ("scroll 2", "input.ZARR"),
        ("scroll 10", "input.zarr"),
    ]
    (alone,) = inference_items(folder / "sheet.ZARR")
    assert alone["case"] == "sheet"
    (folder / "input.zarr").mkdir()
    with pytest.raises(DataError, match=r"input\.(zarr|ZARR): is there as input\.(zarr|ZARR), too; keep one"):
        volume_sets(surface_dir, targets, SIZE)


def test_two_volumes_of_one_case_name_are_refused_and_both_are_named() -> None:
    with pytest.raises(DataError, match=r"^second/v\.zarr: has the case name 'v' of first/v\.zarr"):
        inference_items(["first/v.zarr", "other.zarr", "second/v.zarr"])


def test_the_folder_itself_may_be_a_set_with_a_label_of_its_own(tmp_path, save_set, targets) -> None:
    content = save_set(tmp_path)
    save_set(tmp_path, ref_label=content["sheet"])
    (entry,) = volume_sets(tmp_path, targets, SIZE)
    assert entry["ref_label"] == str(tmp_path / "ref_label.zarr")


def test_targets_choose_among_the_arrays_beside_an_input(surface_dir) -> None:
    sets = volume_sets(
        surface_dir,
        {"normals": {"channels": 3, "activation": "none"}},
        SIZE,
        volumes=[
            {"input": "scroll 2/input.zarr", "normals": "scroll 2/normals.zarr", "ref_label": "scroll 2/sheet.zarr"},
        ],
    )
    assert set(sets[0]) == {"input", "normals", "ref_label"}
    assert sets[0]["ref_label"] == str(surface_dir / "scroll 2" / "sheet.zarr")


@pytest.mark.parametrize("label", [None, "sheet", "scroll 2/sheet.zarr"], ids=["default", "by name", "by path"])
def test_relative_paths_count_from_the_dataset(surface_dir, targets, label) -> None:
    volume = {key: f"scroll 2/{key}.zarr" for key in ("input", "sheet", "normals")}
    (entry,) = volume_sets(surface_dir, targets, SIZE, [volume if label is None else {**volume, "ref_label": label}])
    assert entry == volume_sets(surface_dir, targets, SIZE)[0]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_levels_of_images_become_arrays_and_plain_arrays_have_none(tmp_path, version) -> None:
    names = ("input", "sheet")
    volumes = [{name: str(ome_zarr(tmp_path / f"{name}.zarr", version, (16, 32, 32))) for name in names}]
    (entry,) = volume_sets(tmp_path, {"sheet": {"channels": 1}}, (8, 8, 8), volumes, level=1)
    assert entry["input"] == str(tmp_path / "input.zarr" / "s1")
    assert array_source(entry["input"], level=1) == entry["input"]
    with pytest.raises(DataError, match="levels 0 to 1; there is no level 2"):
        volume_sets(tmp_path, {"sheet": {"channels": 1}}, (8, 8, 8), volumes, level=2)


def test_urls_stay_urls(tmp_path) -> None:
    for name in ("input", "sheet"):
        zarr.create_array(
            f"memory://sets/{name}.zarr", shape=(8, 8, 8), chunks=(8, 8, 8), dtype="uint8", overwrite=True
        )
    volumes = [{"input": "memory://sets/input.zarr", "sheet": "memory://sets/sheet.zarr"}]
    (entry,) = volume_sets(tmp_path, {"sheet": {"channels": 1}}, (8, 8, 8), volumes)
    assert entry == {**volumes[0], "ref_label": volumes[0]["sheet"]}
    assert volume_sets(
        "memory://sets", {"sheet": {"channels": 1}}, (8, 8, 8), [{"input": "input.zarr", "sheet": "sheet.zarr"}]
    ) == [entry]


@pytest.mark.parametrize(
    ("shape", "axis"),
    [((4, 5, 6), None), ((4, 5, 6, 3), -1), ((3, 4, 5, 6), 0)],
    ids=["no channels", "last", "first"],
)
def test_channel_axis_follows_from_the_shapes(shape, axis) -> None:
    assert channel_axis(shape, (4, 5, 6)) == axis


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 7), (4, 5, 7, 3), (1, 3, 4, 5, 6)], ids=str)
def test_other_shapes_have_no_channel_axis(shape) -> None:
    with pytest.raises(DataError, match="fits neither"):
        channel_axis(shape, (4, 5, 6))


@pytest.mark.parametrize(
    ("settings", "shape", "words"),
    [
        pytest.param({"channels": 4, "activation": "softmax"}, (24, 32, 40), None, id="class numbers"),
        pytest.param({"channels": 2, "activation": "sigmoid"}, (2, 24, 32, 40), None, id="channels first"),
        pytest.param({"channels": 2, "activation": "sigmoid"}, (24, 32, 40), "has 1 channels .*expected 2", id="one"),
        pytest.param({"channels": 4, "activation": "softmax"}, (24, 32, 40, 4), "class numbers", id="one-hot"),
        pytest.param({"channels": 1}, (24, 32, 41), r"'sheet'.*fits neither.*\(24, 32, 40\)", id="another size"),
    ],
)
def test_targets_must_have_their_channels_and_the_input_s_size(surface_dir, save_set, settings, shape, words) -> None:
    folder = surface_dir / "other"
    save_set(folder, sheet=np.ones(shape, np.uint8), ref_label=np.ones((24, 32, 40), np.uint8))
    volumes = [{key: f"other/{key}.zarr" for key in ("input", "sheet", "ref_label")}]
    if words is None:
        assert len(volume_sets(surface_dir, {"sheet": settings}, SIZE, volumes)) == 1
        return
    with pytest.raises(DataError, match=rf"sheet\.zarr: .*{words}"):
        volume_sets(surface_dir, {"sheet": settings}, SIZE, volumes)


@pytest.mark.parametrize(
    ("arrays", "size", "words"),
    [
        pytest.param({}, (25, 16, 16), r"input\.zarr: .*\(24, 32, 40\).*smaller than patch_size \(25", id="small"),
        pytest.param(
            {"input": np.ones((4, 24, 32, 40), np.uint8)}, SIZE, r"has 4 channels .*choose one by --channel", id="4-D"
        ),
        pytest.param({"input": np.ones((24, 32, 40), complex)}, SIZE, r"type complex128", id="type"),
        pytest.param({"ref_label": np.ones((24, 32, 41), np.uint8)}, SIZE, r"ref_label.*have the input's", id="label"),
        pytest.param({"ref_label": np.ones((24, 32, 40, 3))}, SIZE, r"ref_label.*and one channel, got", id="vectors"),
        pytest.param({"ref_label": np.ones((2, 24, 32, 40))}, SIZE, r"ref_label.*by `#channel=0` behind", id="labels"),
    ],
)
def test_volumes_that_cannot_work_are_named(tmp_path, save_set, targets, arrays, size, words) -> None:
    save_set(tmp_path, **arrays)
    with pytest.raises(DataError, match=words):
        volume_sets(tmp_path, targets, size)


def test_nothing_found_says_how_to_get_demo_data(tmp_path, targets) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError, match="demo-data surface_unet --output DIR"):
            volume_sets(folder, targets, SIZE)


def test_a_target_without_data_is_named(surface_dir, targets) -> None:
    with pytest.raises(DataError, match=r"scroll 2: no bones\.zarr beside input\.zarr"):
        volume_sets(surface_dir, {**targets, "bones": {"channels": 1}}, SIZE)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        pytest.param({"input": "a", "sheet": "b"}, r"volumes\[0\]: 'normals' is missing", id="missing"),
        pytest.param({"input": "a", "sheet": "b", "normal": "c"}, "did you mean 'normals'", id="misspelt"),
        pytest.param({"input": "a", "bones": "c"}, "'bones' isn't defined under targets; define it", id="undefined"),
    ],
)
def test_keys_must_agree_with_the_targets(tmp_path, targets, entry, words) -> None:
    with pytest.raises(ConfigError, match=words):
        volume_sets(tmp_path, targets, SIZE, [entry])


@pytest.mark.parametrize("name", ["image", "ref_label"])
def test_targets_cannot_take_the_names_of_other_items(tmp_path, name) -> None:
    with pytest.raises(ConfigError, match=f"can't be called '{name}'"):
        volume_sets(tmp_path, {name: {"channels": 1}}, SIZE)


def test_patches_have_a_case_and_a_stamp_that_changes_with_the_label(surface_dir, targets, tmp_path) -> None:
    sets = volume_sets(surface_dir, targets, SIZE)
    file = tmp_path / "patches.json"
    found = patches(sets, SIZE, file, 0.5, 0.01)
    assert [{key: record[key] for key in ("volume_idx", "start_pos")} for record in found] == json.loads(
        file.read_text()
    )
    assert found[0]["case"] == "volume 0 at 0 0 0"
    assert len({record["case"] for record in found}) == len(found)
    assert len({record["stamp"] for record in found}) == 2
    assert patches(sets, SIZE, file, 0.5, 0.01) == found
    label = zarr.open_array(sets[1]["sheet"], mode="r+")
    label[0, 0, 0] = 1  # still labelled: the positions stay
    again = patches(sets, SIZE, file, 0.5, 0.01)
    assert [record["start_pos"] for record in again] == [record["start_pos"] for record in found]
    assert dataset_hash({"train": again}) != dataset_hash({"train": found})
    assert again[0] == found[0]


def test_thresholds_that_no_patch_meets_are_named(surface_dir, targets, tmp_path) -> None:
    with pytest.raises(DataError, match=r"no patch of \(8, 16, 16\) voxels.*min_labeled_ratio \(0\.9\)"):
        patches(volume_sets(surface_dir, targets, SIZE), SIZE, tmp_path / "patches.json", 0.95, 0.9)


def test_a_link_to_a_set_is_no_second_set_and_all_that_is_not_used_is_told(surface_dir, targets) -> None:
    (surface_dir / "a link").symlink_to("scroll 2")
    (surface_dir / "loop").symlink_to(surface_dir)
    (surface_dir / "notes").mkdir()
    (surface_dir / "scroll 2" / "normals.zarr").rename(surface_dir / "scroll 2" / "other.zarr")
    chosen = {"sheet": targets["sheet"]}
    sets = volume_sets(surface_dir, chosen, SIZE)
    assert [Path(entry["input"]).parent.name for entry in sets] == ["scroll 2", "scroll 10"]
    told = " | ".join(sets.left_out)
    assert f"{surface_dir / 'a link'}: is another name of {surface_dir / 'scroll 2'}" in told
    assert "2 entries are not used (loop, notes): a folder without input.zarr" in told
    assert "2 entries are not used (scroll 2/other.zarr, scroll 10/normals.zarr): a Zarr array that isn't" in told
    parts = splits([{"volume_idx": 0, "start_pos": (16 * n, 0, 0)} for n in range(9)], sets, SIZE)
    assert parts.left_out[: len(sets.left_out)] == sets.left_out


def test_what_is_not_predicted_is_told(surface_dir) -> None:
    (surface_dir / "notes.txt").touch()
    items = inference_items(surface_dir)
    assert [item["case"] for item in items] == ["scroll 2", "scroll 10"]
    assert any("notes.txt" in told for told in items.left_out)
    assert any("4 entries are not used" in told and "normals.zarr" in told for told in items.left_out)
