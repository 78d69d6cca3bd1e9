from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ct_helpers import NAMES, save_ct

from monai_ext.ct_rate import LoadChestCTd, View, extract_slices, inference_items, volumes
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
    with pytest.raises(DataError, match=r"has the name of .*x\.nii\.gz; rename one"):
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


def test_impossible_settings_are_refused() -> None:
    for settings in ({"num_slices": 0}, {"size": 0}):
        with pytest.raises(ConfigError, match="must be at least 1"):
            LoadChestCTd("image", **settings)


def test_clahe_without_scikit_image_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'monai-ext\[clahe\]'"):
        LoadChestCTd("image", 12, clahe=True)
