from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from nuclei_files import touch, write_stack, write_table

from monai_ext import nuclei
from monai_ext.data import TiffStack
from monai_ext.errors import ConfigError, DataError, WeightsError


def test_one_sample_or_a_folder_without_table_can_be_predicted(root: Path) -> None:
    (single,) = nuclei.index(root / "0003", labels="optional").samples
    assert (single.case, single.class_id) == ("0003", None)
    (root / "classes.csv").unlink()
    write_stack(root / "cell 7" / "raw")
    items = nuclei.inference_items(nuclei.index(root, labels="optional"), [[1, "Round"], [2, "Oval"]])
    assert [item["case"] for item in items][-2:] == ["0008", "cell 7"]
    assert not any("label" in item for item in items)


def test_inference_labels_what_the_class_map_knows(root: Path, caplog) -> None:
    write_table(root, [(1, 1, "Round"), (2, 4, "Lobed"), (3, 2, "Egg"), (4, 19, "Unclassified")])
    with caplog.at_level(logging.WARNING):
        items = nuclei.inference_items(
            nuclei.index(root, labels="optional", use_mask=True), [[1, "Round"], [2, "Oval"], [4, "Lobed"]]
        )
    assert [item.get("label") for item in items] == [0, 2] + [None] * 6
    assert "class 2 is 'Egg' in the data and 'Oval' in the class map" in caplog.text
    assert set(items[0]) == {"case", "image", "mask", "crop_z", "crop_y", "crop_x", "label", "stamp"}
    assert isinstance(items[0]["mask"], TiffStack)


def test_the_stamp_changes_with_the_files(root: Path) -> None:
    before = {s.case: s.stamp for s in nuclei.index(root).samples}
    touch(root)
    after = {s.case: s.stamp for s in nuclei.index(root).samples}
    assert {case for case in before if before[case] != after[case]} == {"0003"}


def test_the_class_map_closes_gaps_and_drops_the_unclassified(root: Path, caplog) -> None:
    found = nuclei.index(root)
    with caplog.at_level(logging.INFO):
        classes = nuclei.class_map(found)
    assert classes == [[1, "Round"], [2, "Oval"], [4, "Lobed"]]
    assert json.loads(json.dumps(classes)) == classes
    assert nuclei.class_names(classes) == ["Round", "Oval", "Lobed"]
    assert "class 19 'Unclassified' is left out with its 2 samples (excluded)" in caplog.text
    assert nuclei.class_map(found, excluded_classes=()) == [*classes, [19, "Unclassified"]]
    assert nuclei.class_map(found, excluded_classes=["ROUND", 19]) == classes[1:]
    assert nuclei.class_map(found, class_ids=[4, 1]) == [classes[0], classes[2]]


def test_classes_that_are_not_there_or_too_few_are_errors(root: Path) -> None:
    found = nuclei.index(root)
    with pytest.raises(ConfigError, match=r"class_ids \[3, 7\] have no sample; there are \[1, 2, 4, 19\]"):
        nuclei.class_map(found, class_ids=[1, 3, 7])
    with pytest.raises(DataError, match="1 classes are left"):
        nuclei.class_map(found, class_ids=[1])


def test_the_saved_class_map_is_read_back(tmp_path: Path) -> None:
    classes = [[1, "Round"], [4, "Lobed"]]
    torch.save({"model": {}, "settings": {"classes": classes}}, tmp_path / "best.pt")
    assert nuclei.saved_class_map(tmp_path / "best.pt") == classes
    (tmp_path / "cross_validation.json").write_text(json.dumps({"settings": {"classes": classes}}), encoding="utf-8")
    assert nuclei.saved_class_map(tmp_path / "none.pt", tmp_path / "cross_validation.json") == classes


def test_without_weights_the_published_classes_stand_in(tmp_path: Path) -> None:
    classes = nuclei.saved_class_map(tmp_path / "model.pt")
    assert len(classes) == 18
    assert classes[0] == [1, "class_1"]
    assert classes[-1] == [18, "class_18"]
    classes[0][1] = "changed"
    assert nuclei.saved_class_map(tmp_path / "model.pt")[0] == [1, "class_1"]


def test_a_bare_state_dict_has_the_published_classes_with_a_warning(tmp_path: Path, caplog) -> None:
    torch.save({"weight": torch.zeros(1)}, tmp_path / "model.pt")
    assert nuclei.saved_class_map(tmp_path / "model.pt") == nuclei.saved_class_map(tmp_path / "none.pt")
    (warning,) = caplog.messages
    assert warning.startswith(
        f"{tmp_path / 'model.pt'} holds no settings: its outputs are taken for the classes class_1,"
    )
    assert nuclei.saved_class_map(tmp_path / "model.pt", default=[[1, "Round"]]) == [[1, "Round"]]


@pytest.mark.parametrize("settings", [{"scaling": "unit"}, {"classes": "a,b"}, {"classes": [[1, "a"]]}], ids=str)
def test_a_checkpoint_without_classes_is_an_error(tmp_path: Path, settings) -> None:
    torch.save({"model": {}, "settings": settings}, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match=r"x\.pt: has no classes among its settings"):
        nuclei.saved_class_map(tmp_path / "x.pt")
