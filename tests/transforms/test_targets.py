from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_ext.data import encode_normals
from monai_ext.errors import ConfigError, DataError
from monai_ext.losses import MultiTargetLoss
from monai_ext.targets import vector_targets
from monai_ext.transforms import PrepareTargetsd, RandRotateVectorFieldd

SHEET = {"sheet": {"channels": 1, "activation": "sigmoid"}}
NORMALS = {"normals": {"channels": 3, "activation": "none"}}
CLASSES = {"material": {"channels": 4, "activation": "softmax"}}
SHAPE = (4, 5, 6)


@pytest.fixture
def normals() -> np.ndarray:
    """Unit vectors (3, Z, Y, X) with some background."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((3, *SHAPE)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=0)
    vectors[:, rng.random(SHAPE) < 0.4] = 0
    return vectors


def prepare(targets, **stored) -> dict:
    options = {name: stored.pop(name) for name in ("ignore_label", "dilation") if name in stored}
    return PrepareTargetsd(targets, **options)(stored)


def label(dtype="uint8", **values: float) -> np.ndarray:
    """A row of values in the middle of background, (1, 1, 1, 9)."""
    array = np.zeros((1, 1, 1, 9), dtype)
    for place, value in values.items():
        array[..., int(place[1:])] = value
    return array


@pytest.mark.parametrize(
    ("dtype", "step"), [("uint8", 1 / 127.5), ("uint16", 1 / 32767.5), ("float32", 0), ("float16", 1e-3)]
)
def test_vectors_are_decoded_from_every_storage_type(normals, dtype, step) -> None:
    found = prepare(NORMALS, normals=encode_normals(normals, dtype, channel_axis=0))["normals"]
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, normals, atol=step + 1e-6)
    assert np.array_equal(found.numpy().any(axis=0), normals.any(axis=0))


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "int64", "float32", ">u2"])
def test_whatever_is_stored_for_foreground_becomes_one(dtype) -> None:
    stored = label(dtype, x2=1, x3=1 if dtype == "bool" else 255)
    found = prepare(SHEET, sheet=stored)["sheet"]
    assert found.dtype == torch.float32
    assert found.flatten().tolist() == [0, 0, 1, 1, 0, 0, 0, 0, 0]


@pytest.mark.parametrize(("dtype", "ignored"), [("uint8", 2), ("uint8", 255), ("int16", -1), ("float32", -1.0)])
def test_the_ignored_label_stays(dtype, ignored) -> None:
    found = prepare(SHEET, sheet=label(dtype, x2=1, x4=ignored, x6=3), ignore_label=ignored)["sheet"]
    assert found.flatten().tolist() == [0, 0, 1, 0, ignored, 0, 1, 0, 0]


@pytest.mark.parametrize(
    ("dilation", "expected"),
    [
        (0, [1, 0, 0, 0, 0, -1, 1, 0, 0]),
        (1, [1, 1, 0, 0, 0, -1, 1, 1, 0]),
        (2, [1, 1, 1, 0, 1, -1, 1, 1, 1]),
        (20, [1, 1, 1, 1, 1, -1, 1, 1, 1]),
    ],
)
def test_foreground_grows_up_to_the_border_and_never_into_ignored_voxels(dilation, expected) -> None:
    stored = label("int8", x0=1, x5=-1, x6=1)
    found = prepare(SHEET, sheet=stored, ignore_label=-1, dilation=dilation)["sheet"]
    assert found.flatten().tolist() == expected


def test_dilation_is_the_same_along_all_axes() -> None:
    stored = np.zeros((1, 7, 7, 7), np.uint8)
    stored[0, 3, 3, 3] = 255
    found = prepare(SHEET, sheet=stored, dilation=2)["sheet"][0]
    assert found.sum() == 5**3
    assert found[1:6, 1:6, 1:6].all()


def test_other_targets_are_not_dilated(normals) -> None:
    targets = {**SHEET, **NORMALS}
    found = prepare(targets, sheet=np.ones((1, *SHAPE), np.uint8), normals=normals, dilation=1)
    assert torch.equal(found["normals"], torch.from_numpy(normals))


def test_class_numbers_and_other_values_stay() -> None:
    targets = {**CLASSES, "depth": {"channels": 2}}
    stored = np.arange(4, dtype=np.uint8).reshape(1, 1, 2, 2)
    depth = np.linspace(-5, 5, 8).reshape(2, 1, 2, 2)
    found = prepare(targets, material=stored, depth=depth)
    assert found["material"].flatten().tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(found["depth"], depth, rtol=1e-6)
    assert all(value.dtype == torch.float32 for value in found.values())


def test_an_ignored_class_may_be_any_number() -> None:
    found = prepare(CLASSES, material=label(x1=3, x2=255), ignore_label=255)["material"]
    assert found.flatten().tolist() == [0, 3, 255, 0, 0, 0, 0, 0, 0]


def test_what_was_read_is_left_as_it_was(normals) -> None:
    sheet = label("float32", x2=7)
    sheet.setflags(write=False)
    item = {"sheet": sheet, "normals": normals, "image": None}
    before = normals.copy()
    found = PrepareTargetsd({**SHEET, **NORMALS}, dilation=1)(item)
    found["normals"].zero_()
    assert np.array_equal(normals, before)
    assert item["sheet"] is sheet
    assert found["image"] is None


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
def test_tensors_are_taken_and_metadata_kept(dtype) -> None:
    stored = MetaTensor(torch.full((1, 2, 2, 2), 255, dtype=dtype), meta={"start": (1, 2, 3)})
    found = prepare(SHEET, sheet=stored)["sheet"]
    assert found.meta["start"] == (1, 2, 3)
    assert (found == 1).all()


def test_the_result_suits_spatial_transforms_and_losses(normals) -> None:
    targets = {**SHEET, **CLASSES, **NORMALS}
    rng = np.random.default_rng(1)
    found = prepare(
        targets,
        sheet=rng.choice([0, 2, 255], (1, *SHAPE)).astype(np.uint8),
        material=rng.choice([0, 1, 2, 3], (1, *SHAPE)).astype(np.uint8),
        normals=encode_normals(normals, channel_axis=0),
        ignore_label=2,
        dilation=1,
    )
    turned = RandRotateVectorFieldd(tuple(targets), vector_targets(targets), prob=1, mode="nearest")(found)
    batch = {name: turned[name].as_tensor()[None] for name in targets}
    pred = {name: torch.zeros((1, targets[name]["channels"], *SHAPE)) for name in targets}
    assert torch.isfinite(MultiTargetLoss(targets, ignore_label=2)(pred, batch))


def test_missing_targets_are_left_out_where_that_is_allowed() -> None:
    assert PrepareTargetsd(SHEET, allow_missing_keys=True)({"image": 1}) == {"image": 1}
    with pytest.raises(KeyError, match="sheet"):
        PrepareTargetsd(SHEET)({"image": 1})


@pytest.mark.parametrize(
    ("targets", "stored", "message"),
    [
        (SHEET, np.zeros((4, 5, 6), np.uint8), r"must have the shape \(1, Z, Y, X\), got \(4, 5, 6\)"),
        (NORMALS, np.zeros((4, 5, 6, 3), np.uint16), r"must have the shape \(3, Z, Y, X\), got \(4, 5, 6, 3\)"),
        (CLASSES, np.zeros((4, 4, 5, 6), np.uint8), r"must have the shape \(1, Z, Y, X\)"),
        (NORMALS, np.zeros((3, 4, 5, 6), np.int32), "stored as uint16, uint8 or floats, got int32"),
        (CLASSES, label(x3=4), r"must hold the classes 0 to 3, got \[4.0\]; raise its channels, or set ignore_label"),
        (SHEET, label("float32", x3=np.nan), "holds NaN; mark voxels to leave out by ignore_label"),
    ],
    ids=["axes", "channel-last", "one-hot", "type", "class", "nan"],
)
def test_data_that_do_not_fit_are_told_by_target(targets, stored, message) -> None:
    (name,) = targets
    with pytest.raises(DataError, match=f"PrepareTargetsd: target '{name}'.*{message}"):
        PrepareTargetsd(targets)({name: stored})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dilation": -1}, "whole number of voxels, at least 0, got -1"),
        ({"dilation": 1.5}, "got 1.5"),
        ({"dilation": True}, "got True"),
        ({"ignore_label": 0}, "ignore_label can't be 0"),
    ],
    ids=["negative", "fraction", "bool", "background"],
)
def test_wrong_arguments(options, message) -> None:
    with pytest.raises(ConfigError, match=message):
        PrepareTargetsd(SHEET, **options)


@pytest.mark.parametrize(
    ("definition", "vector"),
    [
        ({"channels": 3}, True),
        ({"channels": 3, "activation": "none"}, True),
        ({"channels": 3, "activation": "none", "vector": False}, False),
        ({"channels": 3, "activation": "sigmoid"}, False),
        ({"channels": 2}, False),
    ],
    ids=["default", "none", "said-not", "labels", "two"],
)
def test_vectors_have_three_channels_and_no_activation(definition, vector) -> None:
    assert vector_targets({"a": definition}) == (["a"] if vector else [])


def test_three_channels_that_are_no_vector_stay_as_they_are() -> None:
    targets = {"colour": {"channels": 3, "vector": False}}
    stored = np.zeros((3, 2, 2, 2), np.uint8)
    stored[0] = 200
    assert np.array_equal(prepare(targets, colour=stored)["colour"], stored)
