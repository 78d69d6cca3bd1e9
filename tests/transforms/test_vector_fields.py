from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor, decollate_batch, list_data_collate
from monai.transforms import Compose
from monai.transforms.utils import create_rotate

from monai_ext.errors import ConfigError, DataError
from monai_ext.transforms import (
    FlipVectorField,
    RandFlipVectorFieldd,
    RandRotate90VectorFieldd,
    RandRotateVectorFieldd,
    Rotate90VectorField,
)

AXES = ("z", "y", "x")
KEYS = ["image", "label", "normals"]
EXACT = [RandFlipVectorFieldd, RandRotate90VectorFieldd]
ALL = [*EXACT, RandRotateVectorFieldd]
SHAPES = st.tuples(*[st.integers(2, 5)] * 3)
SEEDS = st.integers(0, 2**32 - 1)
CLASSES = (0, 3, 200)


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(Path(__file__).parents[1] / "golden" / "normals_aug.npz") as file:
        return dict(file)


def unit_vectors(shape, seed: int, background: float = 0.3) -> np.ndarray:
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((3, *shape))
    vectors /= np.linalg.norm(vectors, axis=0)
    return vectors * (random.random(shape) >= background)


def make_item(shape, seed: int) -> dict[str, torch.Tensor]:
    random = np.random.default_rng(seed)
    return {
        "image": torch.as_tensor(random.random((1, *shape)), dtype=torch.float32),
        "label": torch.as_tensor(random.choice(CLASSES, (1, *shape)).astype(np.uint8)),
        "normals": torch.as_tensor(unit_vectors(shape, seed), dtype=torch.float32),
    }


def drawn(transform_class, seed: int, keys=KEYS, **kwargs):
    return transform_class(keys, "normals", prob=1.0, **kwargs).set_random_state(seed)


def scalar_and_normals(rotation: np.ndarray, size: int = 25) -> tuple[np.ndarray, np.ndarray]:
    """A smooth volume turned by a matrix over (z, y, x) about its centre, and its unit gradient (x, y, z)."""
    places = np.stack(np.meshgrid(*[np.arange(size) - size // 2] * 3, indexing="ij")).reshape(3, -1)
    z, y, x = rotation.T @ places
    values = z + 0.1 * y + 0.01 * x**2
    gradient = rotation @ np.stack([np.ones_like(z), np.full_like(z, 0.1), 0.02 * x])
    gradient /= np.linalg.norm(gradient, axis=0)
    return values.reshape(1, size, size, size), gradient[::-1].reshape(3, size, size, size)


def numerical_normals(image: np.ndarray) -> np.ndarray:
    gradient = np.stack(np.gradient(np.asarray(image)[0], edge_order=1)[::-1])
    return gradient / np.linalg.norm(gradient, axis=0)


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("axis", AXES)
def test_quarter_turns_equal_the_reference(golden, axis, k) -> None:
    turn = Rotate90VectorField(axis, k)
    np.testing.assert_array_equal(turn(golden["normals_in"]), golden[f"rot_{axis}{k}_normals"], strict=True)
    np.testing.assert_array_equal(turn.move(golden["image_in"][None])[0], golden[f"rot_{axis}{k}_image"])


@pytest.mark.parametrize("axis", AXES)
def test_flips_equal_the_reference(golden, axis) -> None:
    flip = FlipVectorField(axis)
    np.testing.assert_array_equal(flip(golden["normals_in"]), golden[f"flip_{axis}_normals"], strict=True)
    np.testing.assert_array_equal(flip.move(golden["image_in"][None])[0], golden[f"flip_{axis}_image"])


@given(SHAPES, SEEDS, st.sampled_from(AXES), st.integers(-7, 7))
def test_four_turns_are_the_identity_and_opposite_turns_undo_each_other(shape, seed, axis, k) -> None:
    field = turned = unit_vectors(shape, seed)
    for _ in range(4):
        turned = Rotate90VectorField(axis, k)(turned)
    np.testing.assert_array_equal(turned, field)
    np.testing.assert_array_equal(Rotate90VectorField(axis, -k)(Rotate90VectorField(axis, k)(field)), field)
    np.testing.assert_array_equal(FlipVectorField(axis)(FlipVectorField(axis)(field)), field)


@given(SHAPES, SEEDS, st.sampled_from(AXES), st.integers(0, 3))
def test_lengths_stay_as_they_are_to_the_bit(shape, seed, axis, k) -> None:
    field = unit_vectors(shape, seed)
    for transform in (FlipVectorField(axis), Rotate90VectorField(axis, k)):
        # the order in which squares are added changes with the components
        squares = np.sort(transform(field) ** 2, axis=0)
        np.testing.assert_array_equal(squares, transform.move(np.sort(field**2, axis=0)))


@given(st.tuples(*[st.integers(3, 5)] * 3), SEEDS, st.sampled_from(AXES), st.integers(0, 3))
def test_transformed_normals_are_those_of_the_transformed_volume(shape, seed, axis, k) -> None:
    image = np.random.default_rng(seed).standard_normal((1, *shape))
    normals = numerical_normals(image)
    for transform in (FlipVectorField(axis), Rotate90VectorField(axis, k)):
        np.testing.assert_allclose(transform(normals), numerical_normals(transform.move(image)), atol=1e-12)


@pytest.mark.parametrize("transform", [FlipVectorField("y"), Rotate90VectorField("x", 3)], ids=["flip", "turn"])
def test_an_array_stays_an_array_and_a_tensor_a_tensor_and_both_as_they_were(transform) -> None:
    array = unit_vectors((2, 3, 4), 0)
    for field in (array, torch.as_tensor(array), MetaTensor(array.astype(np.float32))):
        before = deepcopy(field)
        result = transform(field)
        assert type(result) is type(field)
        assert result.dtype == field.dtype
        assert (field == before).all()


@given(SHAPES, SEEDS, st.sampled_from(EXACT))
def test_inverse_restores_every_key_exactly(shape, seed, transform_class) -> None:
    item = make_item(shape, seed)
    transform = drawn(transform_class, seed)
    moved = transform(item)
    back = transform.inverse(moved)
    for key in KEYS:
        assert moved[key].shape == item[key].shape
        torch.testing.assert_close(back[key].as_tensor(), item[key], rtol=0, atol=0)
        torch.testing.assert_close(back[key].affine, torch.eye(4, dtype=torch.float64))
        assert not back[key].applied_operations


@given(SHAPES, SEEDS, st.sampled_from(ALL))
def test_labels_keep_their_values_and_background_stays_with_its_label(shape, seed, transform_class) -> None:
    item = make_item(shape, seed)
    item["label"] = item["normals"].any(dim=0, keepdim=True).to(torch.uint8) * 200
    moved = drawn(transform_class, seed)(item)
    assert moved["label"].dtype == torch.uint8
    assert set(moved["label"].unique().tolist()) <= {0, 200}
    foreground = moved["normals"].as_tensor().any(dim=0, keepdim=True)
    torch.testing.assert_close(foreground, moved["label"].as_tensor() == 200)
    lengths = torch.linalg.vector_norm(moved["normals"].as_tensor(), dim=0)[foreground[0]]
    torch.testing.assert_close(lengths, torch.ones_like(lengths), rtol=0, atol=1e-6)


@given(SEEDS, st.sampled_from(EXACT))
def test_the_random_ones_do_what_the_plain_ones_do(seed, transform_class) -> None:
    item = make_item((4, 4, 4), seed)
    transform = drawn(transform_class, seed)
    moved = transform(item)
    plain = {RandFlipVectorFieldd: FlipVectorField, RandRotate90VectorFieldd: Rotate90VectorField}[transform_class](
        **transform.drawn
    )
    torch.testing.assert_close(moved["normals"].as_tensor(), plain(item["normals"]), rtol=0, atol=0)
    for key in ("image", "label"):
        torch.testing.assert_close(moved[key].as_tensor(), plain.move(item[key]).as_tensor(), rtol=0, atol=0)


@pytest.mark.parametrize("transform_class", ALL)
def test_draws_follow_the_seed(transform_class) -> None:
    def draws() -> list[dict]:
        transforms = [drawn(transform_class, seed) for seed in range(20)]
        for transform in transforms:
            transform.randomize((3, 3, 3))
        return [transform.drawn for transform in transforms]

    assert draws() == draws()
    assert any(draw != draws()[0] for draw in draws())


@pytest.mark.parametrize("transform_class", ALL)
def test_without_a_draw_everything_stays_and_can_be_inverted(transform_class) -> None:
    item = make_item((3, 4, 5), 0)
    transform = transform_class(KEYS, ["normals"], prob=0.0)
    for result in (transform(item), transform.inverse(transform(item))):
        for key in KEYS:
            torch.testing.assert_close(result[key].as_tensor(), item[key], rtol=0, atol=0)


def test_all_axes_and_turns_are_drawn_on_a_cube() -> None:
    transform = drawn(RandRotate90VectorFieldd, 0)
    draws = set()
    for _ in range(200):
        transform.randomize((4, 4, 4))
        draws.add(tuple(transform.drawn.values()))
    assert draws == {(axis, k) for axis in AXES for k in (1, 2, 3)}


def test_a_flat_patch_is_turned_by_quarters_only_in_its_square_plane() -> None:
    transform = drawn(RandRotate90VectorFieldd, 0)
    draws = set()
    for _ in range(200):
        transform.randomize((2, 4, 4))
        draws.add(tuple(transform.drawn.values()))
    assert draws == {("z", 1), ("z", 2), ("z", 3), ("y", 2), ("x", 2)}


@pytest.mark.parametrize("transform_class", EXACT)
def test_only_the_named_axes_are_drawn(transform_class) -> None:
    transform = drawn(transform_class, 0, axes=["y"])
    for _ in range(20):
        transform.randomize((4, 4, 4))
        assert transform.drawn["axis"] == "y"


@pytest.mark.parametrize("transform_class", ALL)
def test_a_missing_key_is_left_out_where_that_is_allowed(transform_class) -> None:
    item = {"image": make_item((3, 3, 3), 0)["image"]}
    assert set(drawn(transform_class, 0, allow_missing_keys=True)(item)) == {"image"}
    with pytest.raises(KeyError, match="label"):
        drawn(transform_class, 0)(item)


def test_a_chain_can_be_inverted_after_a_batch() -> None:
    items = [make_item((8, 8, 8), seed) for seed in (1, 2)]
    chain = Compose(
        [transform_class(KEYS, ["normals"], prob=0.7) for transform_class in ALL[:2]]
        + [RandRotateVectorFieldd(KEYS, ["normals"], prob=1.0, range=0.0)]
    ).set_random_state(0)
    batch = list_data_collate([chain(item) for item in items])
    for item, moved in zip(items, decollate_batch(batch), strict=True):
        back = chain.inverse(moved)
        torch.testing.assert_close(back["normals"].as_tensor(), item["normals"], rtol=0, atol=1e-6)
        torch.testing.assert_close(back["label"].as_tensor(), item["label"])


@pytest.mark.parametrize("seed", range(3))
def test_rotated_normals_are_those_of_the_rotated_volume(seed) -> None:
    image, normals = scalar_and_normals(np.eye(3))
    transform = drawn(RandRotateVectorFieldd, seed, keys=["image", "normals"], range=0.5)
    moved = transform({"image": image, "normals": normals})
    # MONAI's matrix takes places of the result to those of the source
    rotation = create_rotate(3, transform.drawn["angles"])[:3, :3].T
    expected_image, expected_normals = scalar_and_normals(rotation)
    inner = (slice(None), *[slice(7, -7)] * 3)
    np.testing.assert_allclose(moved["image"][inner], expected_image[inner], atol=0.01)
    cosine = (np.asarray(moved["normals"])[inner] * expected_normals[inner]).sum(axis=0)
    # the nearest voxel is at most 0.87 voxels away, over which this volume's normals turn by 0.02
    assert cosine.min() > np.cos(0.02)

    back = transform.inverse(moved)
    cosine = (np.asarray(back["normals"])[inner] * normals[inner]).sum(axis=0)
    assert cosine.min() > np.cos(0.04)
    np.testing.assert_allclose(back["image"][inner], image[inner], atol=0.02)
    torch.testing.assert_close(back["normals"].affine, torch.eye(4, dtype=torch.float64))


@pytest.mark.parametrize(("axis", "k"), [("z", 3), ("y", 1), ("x", 3)])
def test_a_rotation_by_a_right_angle_is_a_quarter_turn(axis, k) -> None:
    angles = [np.pi / 2 if name == axis else 0.0 for name in AXES]
    transform = RandRotateVectorFieldd(KEYS, ["normals"])
    item = make_item((5, 5, 5), 0)
    result = transform.apply("normals", item["normals"], {"angles": angles, "order": "XYZ"})
    expected = Rotate90VectorField(axis, k)(item["normals"])
    torch.testing.assert_close(torch.as_tensor(np.asarray(result)), expected, rtol=0, atol=1e-6)


def test_rotated_vectors_have_length_one_whatever_they_had() -> None:
    item = make_item((9, 9, 9), 0)
    moved = drawn(RandRotateVectorFieldd, 0)({**item, "normals": item["normals"] * 0.9})
    lengths = torch.linalg.vector_norm(moved["normals"].as_tensor(), dim=0)
    torch.testing.assert_close(lengths, (lengths > 0).float(), rtol=0, atol=1e-6)


def test_labels_stored_as_floats_keep_their_values_with_mode_nearest() -> None:
    item = make_item((9, 9, 9), 0)
    item["label"] = item["label"].float()
    modes = ["bilinear", "nearest", "nearest"]
    moved = drawn(RandRotateVectorFieldd, 0, range=0.5, mode=modes)(item)
    assert moved["label"].dtype == torch.float32
    assert set(moved["label"].unique().tolist()) == set(CLASSES)
    assert not set(moved["image"].unique().tolist()) <= {0.0, *item["image"].unique().tolist()}


def test_what_turns_in_from_outside_is_ignored_where_labels_can_be() -> None:
    item = {"image": torch.ones(1, 6, 8, 8), "sheet": torch.ones(1, 6, 8, 8)}
    rotate = RandRotateVectorFieldd(
        ("image", "sheet"), (), 1.0, (0.5, 0.5), ["bilinear", "nearest"], outside=7, outside_keys=["sheet"]
    )
    rotate.set_random_state(0)
    found = rotate(item)
    assert set(found["sheet"].unique().tolist()) == {1.0, 7.0}
    # labels and image agree about what is outside, but for a voxel of interpolation
    assert (found["image"][found["sheet"] == 7] < 1).all()
    assert found["image"].min() == 0


def test_what_turns_in_from_outside_is_zero() -> None:
    item = {key: torch.ones_like(value) for key, value in make_item((9, 9, 9), 0).items()}
    moved = drawn(RandRotateVectorFieldd, 0, range=(0.7, 0.8))(item)
    for key in KEYS:
        assert not moved[key][:, 0, 0, 0].any()


@pytest.mark.parametrize(
    ("given_range", "intervals"),
    [
        (0.2, [(-0.2, 0.2)] * 3),
        ((-0.1, 0.3), [(-0.1, 0.3)] * 3),
        ([0.3, 0.0, 0.1], [(-0.3, 0.3), (0.0, 0.0), (-0.1, 0.1)]),
    ],
    ids=["a number", "low and high", "one number an axis"],
)
def test_angles_are_drawn_from_the_range(given_range, intervals) -> None:
    transform = drawn(RandRotateVectorFieldd, 0, range=given_range)
    for _ in range(20):
        transform.randomize((4, 4, 4))
        for angle, (low, high) in zip(transform.drawn["angles"], intervals, strict=True):
            assert low <= angle <= high


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FlipVectorField("w"), r"one of \['z', 'y', 'x'\], got 'w'"),
        (lambda: Rotate90VectorField("z", 0.5), "must be an integer, got 0.5"),
        (lambda: RandFlipVectorFieldd("image", "normals"), "vector_keys has 'normals'"),
        (lambda: RandFlipVectorFieldd("normals", "normals", axes=[]), "at least one"),
        (lambda: RandRotate90VectorFieldd("normals", "normals", axes=["z", 1]), "got 1"),
        (lambda: RandRotateVectorFieldd("normals", "normals", range=[1, 2, 3, 4]), "number of radians"),
        (lambda: RandRotateVectorFieldd("normals", "normals", range=float("nan")), "got nan"),
        (lambda: RandRotateVectorFieldd("normals", "normals", mode="cubic"), "got 'cubic'"),
    ],
    ids=["axis", "k", "vector key", "no axes", "axis by number", "four ranges", "NaN", "mode"],
)
def test_settings_that_make_no_sense_are_refused(make, message) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (np.zeros((3, 4, 4)), r"shape \(3, Z, Y, X\), got \(3, 4, 4\)"),
        (np.zeros((4, 4, 4, 3)), r"got \(4, 4, 4, 3\)"),
        (np.zeros((3, 2, 2, 2), np.uint16), "got uint16; decode"),
    ],
    ids=["2-D", "channels last", "stored"],
)
def test_what_is_no_vector_field_is_refused(field, message) -> None:
    for transform in (FlipVectorField("z"), Rotate90VectorField("z", 1)):
        with pytest.raises(DataError, match=message):
            transform(field)


@pytest.mark.parametrize("transform_class", ALL)
def test_keys_of_different_shapes_are_refused(transform_class) -> None:
    item = {**make_item((4, 4, 4), 0), "normals": torch.zeros(3, 4, 4, 5)}
    with pytest.raises(DataError, match=r"'image' is \(1, 4, 4, 4\) and 'normals' is \(3, 4, 4, 5\)"):
        drawn(transform_class, 0)(item)
