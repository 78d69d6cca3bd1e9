from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from scipy.ndimage import label as components

from monai_ext.errors import ConfigError, DataError
from monai_ext.transforms import RandSyntheticLesiond

SHAPES = {"slice": (96, 80), "volume": (16, 48, 48)}


def item(shape: tuple[int, ...], seed: int = 0) -> dict[str, torch.Tensor]:
    """A bent cord of about 12 pixels along the first axis of a plane, darker than its surroundings."""
    random = np.random.default_rng(seed)
    along, across = np.meshgrid(*map(np.arange, shape[-2:]), indexing="ij")
    cord = np.abs(across - shape[-1] / 2 - 4 * np.sin(along / 20)) < 6
    mask = np.broadcast_to(cord, shape).astype(np.uint8)
    image = 200 - 100 * mask + random.normal(0, 10, shape)
    return {
        "image": torch.from_numpy(image[None].astype(np.float32)),
        "cord": torch.from_numpy(mask[None].copy()),
        "lesion": torch.zeros((1, *shape), dtype=torch.uint8),
    }


def transform(seed: int = 0, **arguments) -> RandSyntheticLesiond:
    settings = {"keys": "image", "mask_key": "cord", "label_key": "lesion", "prob": 1.0, **arguments}
    return RandSyntheticLesiond(**settings).set_random_state(seed)


def blobs(label: torch.Tensor) -> list[np.ndarray]:
    """Positions of the pixels of each blob; blobs that touch at a corner are one."""
    numbered, count = components(label[0] > 0, np.ones((3,) * (label.ndim - 1)))
    return [np.argwhere(numbered == number + 1) for number in range(count)]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@given(seed=st.integers(0, 10_000))
@settings(max_examples=25)
def test_blobs_lie_in_the_cord_in_number_and_size_and_nothing_else_changes(shape, seed) -> None:
    before = item(shape, seed)
    after = transform(seed)(before)
    inside = after["lesion"] > 0
    assert not (inside & (before["cord"] == 0)).any()
    found = blobs(after["lesion"])
    assert len(found) <= 3
    for blob in found:
        diameter = max(np.linalg.norm(blob - place, axis=1).max() for place in blob) + 1
        assert 3 <= diameter <= 25 + 1e-6
    assert torch.equal(after["image"][~inside], before["image"][~inside])
    assert (after["image"][inside] > before["image"][inside]).all()
    assert torch.equal(after["cord"], before["cord"])
    assert not before["lesion"].any()  # the item that came in stays as it was


@pytest.mark.parametrize("count", [1, 2, 3])
def test_there_are_as_many_blobs_as_asked_for_where_there_is_room(count) -> None:
    for seed in range(10):
        after = transform(seed, num_lesions=(count, count), size=(5, 8))(item((96, 80)))
        assert len(blobs(after["lesion"])) == count


def test_a_blob_is_as_long_as_asked_for() -> None:
    data = item((96, 96))
    data["cord"][:] = 1
    for seed, size in enumerate((5, 9, 25)):
        (blob,) = blobs(transform(seed, num_lesions=(1, 1), size=(size, size))(data)["lesion"])
        diameter = max(np.linalg.norm(blob - place, axis=1).max() for place in blob) + 1
        assert size - 1.5 <= diameter <= size + 1e-6


def test_blobs_are_brighter_than_the_cord_by_its_deviation_with_a_soft_edge() -> None:
    before = item((96, 80))
    after = transform(1, num_lesions=(1, 1), size=(9, 9))(before)
    inside = after["lesion"] > 0
    lift = ((after["image"] - before["image"]) / before["image"][before["cord"] > 0].std(correction=0))[inside]
    assert 2 <= float(lift.max()) <= 4
    assert float(lift.min()) < 0.7 * float(lift.max())


def test_blobs_show_in_a_cord_without_any_deviation() -> None:
    before = item((96, 80))
    before["image"] = 200.0 - 100 * before["cord"]
    after = transform(1, num_lesions=(1, 1))(before)
    lift = (after["image"] - before["image"])[after["lesion"] > 0]
    assert 2 * 5 <= float(lift.max()) <= 4 * 5 + 1e-3


def test_blobs_join_the_lesions_that_are_there_without_touching_them() -> None:
    before = item((96, 80))
    before["lesion"][0, 20:26, 40:44] = 1
    after = transform(2, num_lesions=(2, 2), size=(5, 6))(before)
    assert (after["lesion"][before["lesion"] > 0] == 1).all()
    assert len(blobs(after["lesion"])) == 3
    assert torch.equal(after["image"][before["lesion"] > 0], before["image"][before["lesion"] > 0])


def test_the_same_state_gives_the_same_lesions_and_another_others() -> None:
    first, again, other = (transform(seed)(item((96, 80)))["image"] for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("room", [0, 2], ids=["empty-mask", "too-narrow"])
def test_without_room_the_item_stays_as_it_is(room) -> None:
    before = item((96, 80))
    before["cord"][:] = 0
    before["cord"][..., 40 : 40 + room] = 1
    after = transform()(before)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], before[key]) for key in before)


def test_probability_zero_changes_nothing() -> None:
    before = item((96, 80))
    assert torch.equal(transform(prob=0.0)(before)["image"], before["image"])


def test_types_meta_data_and_further_images_are_kept_and_a_missing_label_is_made() -> None:
    before = item((96, 80))
    del before["lesion"]
    before["image"] = MetaTensor(before["image"].to(torch.float16), meta={"case": "a"})
    before["t1"] = before["cord"].numpy() * np.float64(3.0)
    after = transform(keys=["image", "t1"])(before)
    assert after["image"].dtype == torch.float16
    assert after["image"].meta["case"] == "a"
    assert after["lesion"].dtype == torch.uint8
    assert np.array_equal(after["t1"] != before["t1"], after["lesion"].numpy() > 0)


def test_other_shapes_are_an_error_that_names_the_key() -> None:
    data = item((96, 80))
    with pytest.raises(DataError, match=r"'image' is \(1, 90, 80\), but 'cord' has the spatial shape \(96, 80\)"):
        transform()({**data, "image": data["image"][:, :90]})
    with pytest.raises(DataError, match=r"'cord' must be a mask \(1, Y, X\)"):
        transform()({**data, "cord": data["cord"][0]})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_lesions": (0, 2)}, r"num_lesions must be two ascending integers from 1, got \[0, 2\]"),
        ({"num_lesions": (3, 1)}, "num_lesions must be two"),
        ({"size": (2, 5)}, r"size must be two ascending integers from 3, got \[2, 5\]"),
    ],
    ids=["none", "descending", "tiny"],
)
def test_bad_arguments(arguments, message) -> None:
    with pytest.raises(ConfigError, match=f"RandSyntheticLesiond: {message}"):
        transform(**arguments)


@pytest.mark.parametrize("prob", [0.0, 1.0])
def test_a_missing_label_is_made_whether_a_blob_comes_or_not(prob) -> None:
    before = item(SHAPES["slice"])
    del before["lesion"]
    after = transform(prob=prob)(before)
    assert after["lesion"].shape == before["cord"].shape
    assert bool(after["lesion"].any()) == (prob == 1)


def test_an_item_without_a_cord_can_be_left_as_it_is() -> None:
    before = {"image": torch.rand(1, 16, 16)}
    assert transform(allow_missing_keys=True)(before) == before
