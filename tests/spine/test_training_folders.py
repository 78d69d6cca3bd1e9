from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_ext import spine
from monai_ext.errors import ConfigError, DataError


def write(path: Path, picture: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((4, 6), np.uint8) if picture is None else picture).save(path)
    return path


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    for name in ("knee", "brain", "spine"):
        for patient in range(6):
            for number in range(2):
                write(tmp_path / name / f"p{patient}_{name}_{number}.png")
    return tmp_path


class TestClassFolders:
    def test_labels_go_by_name(self, classes) -> None:
        assert spine.class_names(classes) == ["brain", "knee", "spine"]
        items = spine.class_items(classes)
        assert len(items) == 36
        assert all(Path(item["image"]).parent.name == spine.class_names(classes)[item["label"]] for item in items)
        names = ["spine", "liver", "knee", "brain"]
        assert {item["case"].split("/")[0]: item["label"] for item in spine.class_items(classes, names)} == {
            "spine": 0,
            "knee": 2,
            "brain": 3,
        }

    def test_patients_are_sub_folders_or_prefixes(self, tmp_path) -> None:
        for file in ("a/ann/1.png", "a/ann/t2/2.png", "b/bob_1.png", "b/lone.png"):
            write(tmp_path / file)
        assert {item["case"]: item["patient"] for item in spine.class_items(tmp_path)} == {
            "a/ann/1": "ann",
            "a/ann/t2/2": "ann",
            "b/bob_1": "bob",
            "b/lone": "lone",
        }

    def test_time_points_of_a_patient_are_one_patient(self, tmp_path) -> None:
        for file in ("a/sub-01_ses-1/1.png", "a/sub-01_ses-2/1.png", "b/P07-visit1_1.png", "b/P07-visit2_1.png"):
            write(tmp_path / file)
        assert {item["patient"] for item in spine.class_items(tmp_path)} == {"sub-01", "P07"}

    def test_a_folder_that_the_map_lacks_is_an_error_with_the_nearest_name(self, classes) -> None:
        with pytest.raises(DataError, match=r"brain: the class 'brain' isn't in the class map; did you mean 'brains'"):
            spine.class_items(classes, ["brains", "knee", "spine"])

    def test_folders_of_radimagenet_are_classes_by_their_whole_path(self, tmp_path) -> None:
        for file in ("CT/abd/normal/a1.png", "MR/knee/acl/b1.png", "MR/knee/normal/b2.png", "US/aorta/c1.png"):
            write(tmp_path / "plain" / file)
            write(tmp_path / "unpacked" / "radiology_ai" / file)
        expected = ["CT/abd/normal", "MR/knee/acl", "MR/knee/normal", "US/aorta"]
        assert spine.class_names(tmp_path / "plain") == expected
        assert spine.class_names(tmp_path / "unpacked") == [f"radiology_ai/{name}" for name in expected]
        items = spine.class_items(tmp_path / "plain")
        assert [(item["case"], item["label"]) for item in items][1] == ("MR/knee/acl/b1", 1)

    def test_one_class_is_none(self, tmp_path) -> None:
        write(tmp_path / "a/1.png")
        (tmp_path / "empty").mkdir()
        with pytest.raises(DataError, match="holds 1 classes"):
            spine.class_names(tmp_path)
        with pytest.raises(DataError, match="is not a folder"):
            spine.class_names(tmp_path / "nothing")

    def test_a_slice_that_is_linked_twice_counts_once_and_is_named(self, classes) -> None:
        (classes / "knee" / "p9_again.png").symlink_to("p1_knee_0.png")
        (classes / "knee" / "loop").symlink_to(classes / "knee")
        (classes / "notes.txt").touch()
        write(classes / "loose.png", np.ones((4, 6), np.uint8))
        items = spine.class_items(classes)
        assert len(items) == 36
        assert len(items.left_out) == 4
        for name in ("p9_again.png", "loop", "(notes.txt): no image that is read", "(loose.png): in no folder"):
            assert any(name in told for told in items.left_out)

    def test_one_slice_in_two_classes_is_an_error(self, classes) -> None:
        (classes / "brain" / "p9_0.png").symlink_to(classes / "knee" / "p1_knee_0.png")
        with pytest.raises(DataError, match=r"brain/p9_0\.png: is another name of .*, in the class 'knee'; remove one"):
            spine.class_items(classes)

    def test_one_slice_in_two_formats_is_an_error(self, classes) -> None:
        write(classes / "knee" / "p1_knee_0.jpg")
        with pytest.raises(DataError, match=r"p1_knee_0\.(png|jpg): lies beside p1_knee_0"):
            spine.class_items(classes)

    def test_the_class_map_survives_its_file(self, tmp_path) -> None:
        path = spine.save_class_map(tmp_path / "class_map.json", ["T2w", "T1w", "T2*w"])
        assert spine.load_class_map(path) == ["T2w", "T1w", "T2*w"]

    @pytest.mark.parametrize("content", ["[]", '{"classes": [1]}', '{"classes": []}', '{"classes": ["a", "a"]}'])
    def test_a_damaged_class_map_is_an_error(self, tmp_path, content) -> None:
        path = tmp_path / "class_map.json"
        path.write_text(content)
        with pytest.raises(DataError, match=r"class_map\.json: (is no class map|names a class twice)"):
            spine.load_class_map(path)


class TestSplit:
    def test_no_patient_is_on_both_sides_and_each_is_in_one_validation(self, classes) -> None:
        items = spine.class_items(classes)
        validated = []
        for fold in (1, 2, 3):
            parts = spine.split_by_patient(items, fold, num_folds=3)
            assert not {item["patient"] for item in parts["train"]} & {item["patient"] for item in parts["val"]}
            assert len(parts["train"]) + len(parts["val"]) == len(items)
            validated += [item["case"] for item in parts["val"]]
        assert sorted(validated) == sorted(item["case"] for item in items)

    def test_the_order_of_the_items_does_not_matter(self, classes) -> None:
        items = spine.class_items(classes)
        first, second = (
            {item["case"] for item in spine.split_by_patient(some, 1, 3)["val"]} for some in (items, items[::-1])
        )
        assert first == second

    @pytest.mark.parametrize("fold", [0, 4, True])
    def test_a_fold_out_of_range_is_an_error(self, classes, fold) -> None:
        with pytest.raises(ConfigError, match="fold must be an integer from 1 to 3"):
            spine.split_by_patient(spine.class_items(classes), fold, 3)


class TestImageMask:
    def test_pairs_by_path_whatever_the_suffix(self, tmp_path) -> None:
        write(tmp_path / "images/ann/1.png")
        write(tmp_path / "masks/ann/1.tif")
        write(tmp_path / "images/bob_2.jpg")
        write(tmp_path / "masks/bob_2.png")
        items = spine.image_mask_items(tmp_path)
        assert [(item["case"], item["patient"]) for item in items] == [("ann/1", "ann"), ("bob_2", "bob")]
        assert [Path(item["mask"]).name for item in items] == ["1.tif", "bob_2.png"]
        assert len(items[0]["stamp"]) == 2

    @pytest.mark.parametrize(
        ("files", "message"),
        [
            (["masks/1.png"], "images: is not a folder"),
            (["images/1.png", "masks/2.png"], r"images/1\.png: has no mask of that name"),
            (["images/1.png", "masks/1.png", "masks/2.png"], r"masks/2\.png: has no image of that name"),
            (["images/1.png", "images/1.jpg", "masks/1.png"], r"has the name of 1\.jpg"),
        ],
        ids=["no-images", "no-mask", "no-image", "twice"],
    )
    def test_what_does_not_pair_is_an_error(self, tmp_path, files, message) -> None:
        for file in files:
            write(tmp_path / file)
        with pytest.raises(DataError, match=message):
            spine.image_mask_items(tmp_path)

    def test_what_is_not_used_reaches_the_record_of_the_run(self, tmp_path) -> None:
        for patient in range(4):
            write(tmp_path / f"images/p{patient}_0.png")
            write(tmp_path / f"masks/p{patient}_0.png")
        (tmp_path / "images/p9_0.png").symlink_to("p1_0.png")
        (tmp_path / "masks/p9_0.png").symlink_to("p1_0.png")
        (tmp_path / "masks/Thumbs.db").touch()
        parts = spine.stage_items(tmp_path, num_folds=2)
        assert sum(map(len, parts.values())) == 4
        linked, other = parts.left_out
        assert "p9_0.png: is another name of" in linked
        assert "1 entry is not used (Thumbs.db)" in other

    def test_masks_that_storage_keeps_as_one_file_are_masks_each(self, tmp_path) -> None:
        for patient in range(2):
            write(tmp_path / f"images/p{patient}_0.png", np.full((4, 6), patient, np.uint8))
        write(tmp_path / "masks/p0_0.png")
        (tmp_path / "masks/p1_0.png").hardlink_to(tmp_path / "masks/p0_0.png")
        assert len(spine.image_mask_items(tmp_path)) == 2
