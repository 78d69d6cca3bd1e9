from __future__ import annotations

from pathlib import Path

import pytest
from ct_helpers import write_table

from monai_ext import ct_rate
from monai_ext.ct_rate import LoadChestCTd, View, levels
from monai_ext.errors import ConfigError, DataError


@pytest.fixture
def slices_dir(ct_dir: Path, tmp_path: Path) -> Path:
    ct_rate.extract_slices(ct_rate.volumes(ct_dir), tmp_path / "slices", num_slices=4, size=16, workers=0)
    return tmp_path / "slices"


def small(architecture: str, in_channels: int = 1) -> View:
    return View(architecture, in_channels, num_slices=4, slice_size=16)


def items_of(view: View, **settings: object) -> list[dict]:
    index = view.index(**settings)
    return view.items({"all": index.volumes})["all"]


@pytest.mark.parametrize("in_channels", [1, 3])
def test_items_of_volumes_and_of_slices_load_to_the_shape_that_is_told(
    ct_dir: Path, slices_dir: Path, in_channels: int
) -> None:
    view = small("volume", in_channels)
    load = LoadChestCTd("image", view.slices_read, 16, neighbours=view.neighbours)
    volumes, slices = items_of(view, dataset_dir=ct_dir), items_of(view, slices_dir=slices_dir)
    assert [item["case"] for item in volumes] == [item["case"] for item in slices]
    for a, b in zip(volumes, slices, strict=True):
        assert load(a)["image"].shape == view.input_shape
        assert (load(a)["image"] == load(b)["image"]).all()
        assert (a["label"] == b["label"]).all()


def test_single_slices_are_parts_of_volumes(slices_dir: Path) -> None:
    view = small("slice")
    items = items_of(view, slices_dir=slices_dir)
    assert len(items) > len({item["case"] for item in items}) == 6
    assert LoadChestCTd("image")(items[0])["image"].shape == view.input_shape
    assert levels(items) == {"cases": "volumes", "parts": "slices", "part_columns": ["slice"]}


def test_volumes_have_no_parts(ct_dir: Path) -> None:
    items = items_of(small("densenet3d"), dataset_dir=ct_dir)
    assert levels(items) == levels([]) == {"cases": None, "parts": None, "part_columns": []}


@pytest.mark.parametrize(
    ("architecture", "in_channels", "message"),
    [("unet", 1, "--architecture unet"), ("volume", 2, "must be 1 or 3"), ("resnet3d", 3, "must be 1 for")],
    ids=["unknown", "two-channels", "colours-of-a-volume"],
)
def test_impossible_views_are_refused(architecture: str, in_channels: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        View(architecture, in_channels)


def test_slices_and_volumes_are_refused_where_they_do_not_fit(ct_dir: Path, slices_dir: Path) -> None:
    with pytest.raises(ConfigError, match="extract-slices"):
        small("slice").index(dataset_dir=ct_dir)
    with pytest.raises(ConfigError, match="takes whole volumes"):
        small("resnet3d").index(slices_dir)
    with pytest.raises(ConfigError, match="takes whole volumes"):
        small("resnet3d").inference_items(slices_dir)
    with pytest.raises(ConfigError, match="num_slices=4"):
        View("volume", num_slices=5, slice_size=16).index(slices_dir)


def test_a_label_table_without_a_column_or_a_row_is_an_error(ct_dir: Path) -> None:
    table = ct_dir / "dataset/multi_abnormality_labels/train_predicted_labels.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(DataError, match="no row"):
        small("volume").index(dataset_dir=ct_dir)
    write_table(table, [{"VolumeName": "train_1_a_1.nii.gz", "Emphysema": 1}])
    with pytest.raises(DataError, match="lacks"):
        small("volume").index(dataset_dir=ct_dir)
