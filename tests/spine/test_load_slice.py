from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_ext.errors import DataError
from monai_ext.spine import LoadSliced


def write(path: Path, picture: np.ndarray) -> str:
    Image.fromarray(picture).save(path)
    return str(path)


def test_gives_rows_and_columns_as_on_the_screen_and_binary_masks(tmp_path) -> None:
    picture = np.arange(24, dtype=np.uint8).reshape(4, 6)
    item = {"image": write(tmp_path / "a.png", picture), "mask": write(tmp_path / "b.png", picture), "label": 1}
    loaded = LoadSliced(["image", "mask"], mask_keys="mask")(item)
    assert loaded["image"].shape == (1, 4, 6)
    assert np.array_equal(loaded["image"][0], picture)
    assert np.array_equal(loaded["mask"][0], picture > 0)
    assert loaded["image"].meta["filename_or_obj"] == item["image"]
    assert loaded["label"] == 1


def test_a_mask_of_another_shape_is_an_error(tmp_path) -> None:
    item = {
        "image": write(tmp_path / "a.png", np.zeros((4, 6), np.uint8)),
        "mask": write(tmp_path / "b.png", np.zeros((5, 6), np.uint8)),
    }
    with pytest.raises(DataError, match=r"b\.png: has \(5, 6\) pixels, but the image of its item has \(4, 6\)"):
        LoadSliced(["image", "mask"])(item)


def test_a_missing_file_is_an_error_that_names_it(tmp_path) -> None:
    with pytest.raises(DataError, match=r"nothing\.png: file not found"):
        LoadSliced("image")({"image": tmp_path / "nothing.png"})


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_a_file_of_several_images_is_refused_and_not_read_as_its_first(tmp_path, name) -> None:
    images = [Image.fromarray(np.full((4, 6), value, np.uint8)) for value in (10, 200)]
    images[0].save(tmp_path / name, save_all=True, append_images=images[1:])
    with pytest.raises(DataError, match=rf"{name}: holds 2 images|{name}: .*2 (pages|images|slices)"):
        LoadSliced("image")({"image": tmp_path / name})
