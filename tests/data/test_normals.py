from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from monai_ext.data import decode_normals, encode_normals
from monai_ext.errors import ConfigError, DataError

# Computed with the surface project's helpers.
GOLDEN_NORMALS = [[1, 0, 0], [0, 1, 0], [0, 0, -1], [0.6, 0.8, 0], [-0.6, 0, 0.8]]
GOLDEN_STORED = [
    [65535, 32767, 32767],
    [32767, 65535, 32767],
    [32767, 32767, 0],
    [52428, 58981, 32767],
    [13106, 32767, 58981],
]
STEP = 1.52587890625e-05
GOLDEN_DECODED = [
    [1, -STEP, -STEP],
    [-STEP, 1, -STEP],
    [-STEP, -STEP, -1],
    [0.6000000238418579, 0.7999846935272217, -STEP],
    [-0.6000305414199829, -STEP, 0.7999846935272217],
]
STEPS = {"uint16": 1 / 32767.5, "uint8": 1 / 127.5}
COMPONENTS = st.one_of(st.sampled_from([0.0, -1.0, 1.0]), st.floats(-1, 1, width=32))
VECTORS = hnp.arrays(np.float32, st.tuples(st.integers(1, 4), st.just(3)), elements=COMPONENTS)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
def test_equals_the_reference(dtype) -> None:
    normals = np.asarray(np.float32(GOLDEN_NORMALS), dtype)
    stored = encode_normals(normals)
    np.testing.assert_array_equal(stored, np.asarray(GOLDEN_STORED, np.uint16), strict=True)
    np.testing.assert_array_equal(decode_normals(stored), np.float32(GOLDEN_DECODED), strict=True)


@given(VECTORS, st.sampled_from(list(STEPS)))
def test_what_comes_back_lies_within_a_step_and_has_the_same_background(normals, dtype) -> None:
    back = decode_normals(encode_normals(normals, dtype))
    # beyond the step, only what float32 rounds
    assert np.abs(back - normals).max() <= STEPS[dtype] + 1e-6
    np.testing.assert_array_equal(back.any(axis=-1), normals.any(axis=-1))


@given(hnp.arrays(np.uint8, (4, 3), elements=st.integers(0, 255)))
def test_each_stored_vector_decodes_to_one_that_is_zero_only_for_zeros(stored) -> None:
    np.testing.assert_array_equal(decode_normals(stored).any(axis=-1), stored.any(axis=-1))


@pytest.mark.parametrize("dtype", STEPS)
def test_the_zero_vector_is_stored_as_zeros_and_comes_back(dtype) -> None:
    stored = encode_normals(np.zeros((2, 2, 3), np.float32), dtype)
    assert stored.dtype == dtype
    assert not stored.any()
    assert not decode_normals(stored).any()


def test_channels_first_and_last_are_the_same_numbers() -> None:
    normals = np.float32([*GOLDEN_NORMALS, [0, 0, 0]])
    first = encode_normals(normals.T, channel_axis=0)
    np.testing.assert_array_equal(first.T, encode_normals(normals))
    np.testing.assert_array_equal(decode_normals(first, channel_axis=0).T, decode_normals(first.T))


def test_lengths_a_little_over_one_do_not_wrap_around() -> None:
    assert encode_normals(np.float32([[1.001, -1.001, 0]])).tolist() == [[65535, 0, 32767]]


def test_floats_pass_through() -> None:
    normals = np.float32(GOLDEN_NORMALS)
    assert encode_normals(normals, "float32") is normals
    assert encode_normals(normals, "float16").dtype == np.float16
    assert decode_normals(normals) is normals


def test_either_byte_order_is_read() -> None:
    stored = np.asarray(GOLDEN_STORED, ">u2")
    np.testing.assert_array_equal(decode_normals(stored), np.float32(GOLDEN_DECODED))


def test_the_input_stays_as_it_is() -> None:
    normals = np.float32(GOLDEN_NORMALS)
    decode_normals(encode_normals(normals))
    np.testing.assert_array_equal(normals, np.float32(GOLDEN_NORMALS))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: encode_normals(np.zeros((4, 3)), "int16"), ConfigError, "dtype must be 'uint16', 'uint8' or a float"),
        (lambda: encode_normals(np.zeros((4, 3)), "colour"), ConfigError, "got 'colour'"),
        (lambda: encode_normals(np.zeros((3, 4))), DataError, r"on axis -1, got the shape \(3, 4\)"),
        (lambda: encode_normals(np.zeros((4, 3), np.uint16)), DataError, "are they encoded already"),
        (lambda: encode_normals(np.full((4, 3), np.nan)), DataError, "NaN or infinite"),
        (lambda: decode_normals(np.zeros((4, 3), np.int32)), DataError, "got int32"),
        (lambda: decode_normals(np.zeros(3, np.uint8), channel_axis=1), DataError, "on axis 1"),
    ],
    ids=["signed", "unknown type", "wrong axis", "encoded twice", "NaN", "stored as int32", "no such axis"],
)
def test_what_cannot_be_stored_is_said(call, error, message) -> None:
    with pytest.raises(error, match=message):
        call()
