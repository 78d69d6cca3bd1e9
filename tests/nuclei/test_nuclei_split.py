from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nuclei_files import virtual

from monai_ext import nuclei
from monai_ext.errors import ConfigError, DataError

SECTIONS = ("train", "val", "test")


def cases(items: Sequence[dict]) -> set[str]:
    return {item["case"] for item in items}


@given(
    st.lists(st.integers(7, 14), min_size=2, max_size=4),
    st.integers(0, 5),
    st.sampled_from([0.15, 0.3]),
    st.integers(2, 4),
)
@settings(max_examples=25, deadline=None)
def test_a_nucleus_is_in_one_part_of_a_split_and_the_parts_cover_all(sizes, seed, fraction, folds) -> None:
    labels = [label for label, size in enumerate(sizes, start=1) for _ in range(size)]
    found = virtual(labels)
    classes = nuclei.class_map(found)
    validated: list[str] = []
    tests = []
    for fold in range(1, folds + 1):
        split = nuclei.splits(found, classes, fold, folds, fraction, seed)
        parts = [split[section] for section in SECTIONS]
        members = [cases(part) for part in parts]
        assert set.union(*members) == {sample.case for sample in found.samples}
        assert sum(len(member) for member in members) == len(labels)
        assert sum(len(part) for part in parts) == 2 * len(labels)
        assert {item["label"] for item in parts[0]} == {item["label"] for item in parts[1]} == set(range(len(sizes)))
        validated += members[1]
        tests.append(members[2])
    assert len(validated) == len(set(validated))
    assert all(test == tests[0] for test in tests)

    shuffled = nuclei.NucleiIndex(random.Random(seed).sample(found.samples, len(labels)), [])
    again = nuclei.splits(shuffled, classes, folds, folds, fraction, seed)["val"]
    assert cases(again) == members[1]


def test_shares_of_the_classes_are_kept() -> None:
    found = virtual([1] * 40 + [2] * 20 + [19] * 5)
    classes = nuclei.class_map(found)
    split = nuclei.splits(found, classes)
    for section, counts in (("test", [6, 3]), ("val", [7, 3]), ("train", [27, 14])):
        labels = [item["label"] for item in split[section]]
        assert np.abs(np.bincount(labels) / 2 - counts).max() <= 1, section


def test_without_a_test_part_all_is_trained_and_validated() -> None:
    found = virtual([1] * 6 + [2] * 6)
    classes = nuclei.class_map(found)
    split = nuclei.splits(found, classes, 1, 3, 0)
    assert {name: len(cases(part)) for name, part in split.items()} == {"train": 8, "val": 4}
    with pytest.raises(ConfigError, match="--section test: there is no such section of the data; there are train, val"):
        split["test"]


def test_a_percentage_of_each_class_is_drawn_and_smaller_ones_lie_in_larger_ones() -> None:
    found = virtual([1] * 40 + [2] * 20)
    classes = nuclei.class_map(found)

    def drawn(percent: float) -> set[str]:
        return set.union(*map(cases, nuclei.splits(found, classes, num_folds=2, sample_percent=percent).values()))

    half, quarter = drawn(50), drawn(25)
    assert sorted(case < "0040" for case in half) == [False] * 10 + [True] * 20
    assert quarter < half
    with pytest.raises(DataError, match=r"class 'class 1' has 1 samples, too few for a test set and 2 folds"):
        drawn(0.1)


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ([1] * 9 + [2] * 5, {}, "class 'class 2' has 5 samples, too few for a test set and 5 folds"),
        ([1] * 9 + [2] * 4, {"test_fraction": 0}, "class 'class 2' has 4 samples, too few for 5 folds"),
        ([1] * 8 + [2] * 8, {"test_fraction": 0.7}, "too few for 5 folds beside the test set"),
        ([1] * 6 + [2] * 6 + [3] * 6, {"test_fraction": 0.1}, "0.1 of 18 samples make no test set"),
    ],
    ids=["test part", "folds", "rest", "few"],
)
def test_too_few_samples_name_the_class_and_what_to_do(labels, options, message: str) -> None:
    found = virtual(labels)
    with pytest.raises(DataError, match=message):
        nuclei.splits(found, nuclei.class_map(found), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fold": 0}, "fold must be an integer from 1 to 5"),
        ({"fold": 6}, "fold must be"),
        ({"fold": True}, "fold must be"),
        ({"test_fraction": 1}, "test_fraction must be"),
        ({"sample_percent": 0}, "sample_percent"),
    ],
    ids=str,
)
def test_arguments_of_a_split_are_checked(options, message: str) -> None:
    found = virtual([1] * 9 + [2] * 9)
    with pytest.raises(ConfigError, match=message):
        nuclei.splits(found, nuclei.class_map(found), **options)
