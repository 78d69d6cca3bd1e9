from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from ct_helpers import NAMES, chest, metadata_row, save_ct, write_table

from monai_ext.ct_rate import LoadChestCTd, View, extract_slices, inference_items, transforms, volumes
from monai_ext.data import PreparedDataset
from monai_ext.errors import ConfigError, DataError

SIZE = 16


@pytest.fixture
def slices_dir(ct_dir: Path, tmp_path: Path) -> Path:
    extract_slices(volumes(ct_dir), tmp_path / "slices of it", 6, SIZE, workers=1)
    return tmp_path / "slices of it"


def test_a_dataset_keeps_its_labels_and_metadata(ct_dir: Path) -> None:
    items = inference_items(ct_dir, ["Lung nodule"])
    assert [item["case"] for item in items] == list(NAMES)
    assert [item["label"].tolist() for item in items] == [[float("Lung nodule" in labels)] for labels in NAMES.values()]
    assert all(item["rescale"] == (1, -1024) for item in items)


@pytest.mark.parametrize("kind", ["file", "folder", "list"])
def test_volumes_from_elsewhere_need_no_labels(tmp_path: Path, kind: str) -> None:
    path = save_ct(tmp_path / "an élève" / "patient 7.nii.gz", header=(1.0, -1024.0), stored_as=(1.0, -1024.0))
    (item,) = inference_items({"file": path, "folder": path.parent, "list": [path, str(path)]}[kind])
    assert item["case"] == "patient 7.nii.gz"
    assert "label" not in item
    assert LoadChestCTd("image", 6, SIZE)(item)["image"].shape == (6, 1, SIZE, SIZE)


def test_volumes_from_elsewhere_may_have_a_metadata_table(ct_dir: Path) -> None:
    folder = ct_dir / "dataset" / "train"
    (first, *_) = inference_items(folder)
    with pytest.raises(DataError, match="slope and intercept are missing"):
        LoadChestCTd("image")(first)
    (first, *_) = inference_items(folder, metadata=ct_dir / "dataset/metadata/train_metadata.csv")
    assert LoadChestCTd("image")(first)["image"].shape == (1, 20, 32, 32)


@pytest.mark.parametrize("labelled", [True, False], ids=["with tables", "files only"])
def test_slices_give_the_same_input_as_their_volume(ct_dir: Path, slices_dir: Path, labelled: bool) -> None:
    (volume, *_) = inference_items(ct_dir)
    inputs = slices_dir if labelled else slices_dir / "slices"
    expected = LoadChestCTd("image", 6, SIZE, neighbours=True)(volume)["image"]
    (bag, *_) = inference_items(inputs, neighbours=True, num_slices=6)
    assert ("label" in bag) == labelled
    assert bag["case"] == volume["case"]
    assert torch.equal(LoadChestCTd("image")(bag)["image"], expected)
    singles = [item for item in inference_items(inputs) if item["case"] == volume["case"]]
    assert [item["slice"] for item in singles] == sorted(item["slice"] for item in singles)
    assert torch.equal(torch.stack([LoadChestCTd("image")(item)["image"] for item in singles]), expected[:, 1:2])


@pytest.mark.parametrize("labelled", [True, False], ids=["with tables", "files only"])
def test_one_changed_slice_changes_the_stamp_of_its_volume(slices_dir: Path, labelled: bool) -> None:
    inputs = slices_dir if labelled else slices_dir / "slices"
    before = {item["case"]: item["stamp"] for item in inference_items(inputs, num_slices=6)}
    changed = sorted(slices_dir.rglob("*_slice_*.npy"))[3]
    old = changed.stat().st_mtime_ns - 10**9
    np.save(changed, np.load(changed)[::-1])
    os.utime(changed, ns=(old, old))
    after = {item["case"]: item["stamp"] for item in inference_items(inputs, num_slices=6)}
    assert [case for case in before if after[case] != before[case]] == [
        f"{changed.name.partition('_slice_')[0]}.nii.gz"
    ]


def test_a_slice_of_any_name_is_a_case(tmp_path: Path) -> None:
    np.save(tmp_path / "key image.npy", np.zeros((SIZE, SIZE), np.float32))
    (item,) = inference_items(tmp_path / "key image.npy")
    assert (item["case"], item["slice"]) == ("key image", 0)
    assert LoadChestCTd("image")(item)["image"].shape == (1, SIZE, SIZE)


def test_what_cannot_be_predicted_is_named(tmp_path: Path, slices_dir: Path) -> None:
    with pytest.raises(DataError, match="nothing: no such file or folder"):
        inference_items(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no volume \(\.nii\.gz or \.nii\) and no slice"):
        inference_items(tmp_path / "empty")
    (tmp_path / "a.png").touch()
    with pytest.raises(DataError, match=r"a\.png: is neither a volume"):
        inference_items(tmp_path / "a.png")
    save_ct(slices_dir / "slices" / "a.nii.gz")
    with pytest.raises(DataError, match="give only one kind"):
        inference_items(slices_dir / "slices")
    save_ct(tmp_path / "twins" / "a" / "x.nii.gz")
    save_ct(tmp_path / "twins" / "b" / "x.nii.gz")
    with pytest.raises(DataError, match=r"has the case name 'x.nii.gz' of .*x\.nii\.gz; rename one"):
        inference_items(tmp_path / "twins")


def test_files_that_are_not_predicted_are_named(tmp_path: Path) -> None:
    save_ct(tmp_path / "a" / "x.NII.gz", header=(1.0, -1024.0), stored_as=(1.0, -1024.0))
    (tmp_path / "a" / "x.json").touch()
    (tmp_path / "a" / "link.nii").symlink_to("x.NII.gz")
    items = View().inference_items(tmp_path / "a")
    assert [item["case"] for item in items] == ["x.nii.gz"]
    link, other = items.left_out
    assert link.startswith(f"{tmp_path / 'a' / 'link.nii'}: is another name of")
    assert other == f"{tmp_path / 'a'}: 1 entry is not used (x.json): no volume (.nii.gz or .nii), no slice (.npy)"


def test_tables_of_ct_rate_are_not_left_out_when_they_are_used_else_by_the_right_reason(tmp_path: Path) -> None:
    save_ct(tmp_path / "x.nii.gz")
    table = write_table(tmp_path / "metadata.csv", [metadata_row("x.nii.gz")])
    assert inference_items(tmp_path, metadata=table).left_out == []
    (note,) = inference_items(tmp_path).left_out
    assert "1 entry is not used (metadata.csv): a table of CT-RATE; one with slope and intercept is used when" in note


def test_impossible_settings_are_refused() -> None:
    for settings in ({"num_slices": 0}, {"size": 0}):
        with pytest.raises(ConfigError, match="must be at least 1"):
            LoadChestCTd("image", **settings)


def test_clahe_without_scikit_image_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'monai-ext\[clahe\]'"):
        LoadChestCTd("image", 12, clahe=True)


def test_files_without_gz_and_with_suffixes_in_any_case_are_predicted(ct_dir: Path, tmp_path: Path) -> None:
    for name in ("train_2_a_1.nii", "valid_1_a_1.NII", "patient 7.Nii"):
        save_ct(tmp_path / "those" / "x.nii", stored_as=(1.0, -1024.0)).rename(tmp_path / "those" / name)
    items = View("volume", num_slices=4, slice_size=16).inference_items(
        tmp_path / "those", metadata=ct_dir / "dataset/metadata/train_metadata.csv"
    )
    assert [item["case"] for item in items] == ["patient 7.nii.gz", "train_2_a_1.nii.gz", "valid_1_a_1.nii.gz"]
    assert [item.get("rescale") for item in items] == [None, (1, -1024), None]
    loaded = LoadChestCTd("image", 4, SIZE)(items[1])
    assert loaded["image"].shape == (4, 1, SIZE, SIZE)
    assert loaded["reading"] == "metadata table (slope 1, intercept -1024)"
    assert inference_items(tmp_path / "those" / "valid_1_a_1.NII")[0]["case"] == "valid_1_a_1.nii.gz"
    assert View("densenet3d").inference_items(tmp_path / "those")  # volumes, not slices
    save_ct(tmp_path / "those" / "valid_1_a_1.nii.gz")
    with pytest.raises(DataError, match=r"valid_1_a_1\..*: has the case name .* of .*valid_1_a_1\."):
        inference_items(tmp_path / "those")


def test_what_is_loaded_says_how_it_was_read_and_what_is_doubtful(tmp_path: Path) -> None:
    item = {"image": str(save_ct(tmp_path / "a.nii")), "rescale": (1.0, -1024.0)}
    assert LoadChestCTd("image")(item)["reading"] == "stored values"
    assert LoadChestCTd("image", 6, SIZE)(item)["reading"] == "stored values"
    item["image"] = str(save_ct(tmp_path / "b.nii", chest(lungs=(30, 31))))
    assert LoadChestCTd("image", 6, SIZE)(item)["reading"].startswith("stored values; shows no lungs")


def test_volumes_prepared_by_an_earlier_version_are_prepared_again(tmp_path: Path, monkeypatch) -> None:
    items = [{"case": "a", "image": str(save_ct(tmp_path / "a.nii"))}]

    def file() -> Path | None:
        return PreparedDataset(items, [LoadChestCTd("image")], tmp_path / "cache").cache_file(0)

    now = file()
    assert now == file()
    monkeypatch.setattr(transforms, "PREPARATION", 1)
    assert file() != now
