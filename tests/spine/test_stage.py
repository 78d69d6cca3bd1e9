from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_ext import spine
from monai_ext.errors import ConfigError, DataError


def write(path: Path, pixels: int = 0) -> None:
    """A slice of 10 x 10 of which so many pixels aren't 0."""
    image = np.zeros(100, np.uint8)
    image[:pixels] = 200
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.reshape(10, 10)).save(path)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Four patients with two slices each, whose masks cover 0 and 4 %."""
    for patient in "abcd":
        for number, pixels in enumerate((0, 4)):
            write(tmp_path / "cord" / "images" / f"{patient}_{number}.png", 50)
            write(tmp_path / "cord" / "masks" / f"{patient}_{number}.png", pixels)
    return tmp_path / "cord"


def both(parts: dict[str, list]) -> list[dict]:
    return sorted(parts["train"] + parts["val"], key=lambda item: item["case"])


@pytest.mark.parametrize(("area", "labels"), [(0.01, [0, 1]), (0.04, [0, 1]), (0.05, [0, 0])])
def test_the_cord_is_visible_from_a_share_of_the_slice_on(pairs, area, labels) -> None:
    items = both(spine.stage_items(pairs, "visible", ["no_cord", "cord"], num_folds=2, visible_area=area))
    assert [item["label"] for item in items] == labels * 4
    assert all("mask" not in item for item in items)


def test_stages_together_count_their_classes_through_and_keep_a_patient_on_one_side(tmp_path) -> None:
    folders = {"anatomy": ("knee", "spine"), "sequence": ("T1w", "T2w")}
    for stage, names in folders.items():
        for name in names:
            for patient in "abcd":
                write(tmp_path / stage / name / f"{patient}_0.png", 50)
    classes = spine.shared_classes(tmp_path, tuple(folders))
    assert classes == ["anatomy/knee", "anatomy/spine", "sequence/T1w", "sequence/T2w"]
    parts = spine.stage_items(tmp_path, "stages", classes, num_folds=2)
    assert all(item["case"] == f"{classes[item['label']]}/{item['patient']}_0" for item in both(parts))
    assert [len(items) for items in parts.values()] == [8, 8]
    assert not {item["patient"] for item in parts["train"]} & {item["patient"] for item in parts["val"]}
    with pytest.raises(DataError, match="location_view: is not a folder"):
        spine.shared_classes(tmp_path)


def test_masks_of_the_cord_are_lent_to_the_slices_that_have_one(pairs, tmp_path) -> None:
    for patient in "abcd":
        for kind in ("images", "masks"):
            write(tmp_path / "lesion" / kind / f"{patient}_1.png", 1)
            write(tmp_path / "lesion" / kind / f"{patient}_9.png", 1)
    items = both(spine.stage_items(tmp_path / "lesion", num_folds=2, cord_dir=pairs))
    assert [Path(item["cord"]).name if "cord" in item else None for item in items[:2]] == ["a_1.png", None]
    assert all("cord" not in item for item in both(spine.stage_items(tmp_path / "lesion", num_folds=2)))


def test_for_made_up_lesions_the_masks_are_those_of_the_cord(pairs) -> None:
    for item in both(spine.stage_items(pairs, "synthetic", num_folds=2)):
        assert "mask" not in item
        assert Path(item["cord"]).parent == pairs / "masks"


def test_class_weights_make_rare_classes_count_as_much_as_common_ones() -> None:
    items = [{"label": 0}] * 6 + [{"label": 1}] * 2
    names = ["often", "seldom"]
    weights = spine.class_weights(items, names)
    assert weights.tolist() == pytest.approx([8 / 12, 8 / 4])
    drawn = spine.class_sample_weights(items, names)
    assert sum(drawn[:6]) == pytest.approx(sum(drawn[6:]))
    with pytest.raises(DataError, match=r"no sample of class \[2\]"):
        spine.class_weights(items, [*names, "never"])
    with pytest.raises(ConfigError, match="--class_weights: is for classifiers"):
        spine.class_weights(items, [])


def test_a_missing_folder_says_how_to_get_data(tmp_path) -> None:
    for ask in (lambda: spine.stage_items(tmp_path / "no"), lambda: spine.stage_classes("classification", "no")):
        with pytest.raises(DataError, match=r"no: is not a folder; .*demo-data spinal_cord_cascade"):
            ask()
    assert spine.stage_classes("segmentation", tmp_path / "no") == []


def test_networks_and_losses_of_one_s_own_are_let_through() -> None:
    spine.check_stage("segmentation", "masks", "my_unet", "my_loss", 33)
    spine.check_stage("classification", "folders", "my_network", "cross_entropy", 33)
    spine.check_stage("classification", "folders", "resnet18", "my_loss", 33)
    for task, labels, loss in (("segmentation", "masks", "cross_entropy"), ("classification", "folders", "dice")):
        with pytest.raises(ConfigError, match=f"--loss {loss}: isn't for --task {task}"):
            spine.check_stage(task, labels, "my_network", loss, 32)
