from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monai_ext.data.splits import class_counts, grouped_stratified_folds
from monai_ext.errors import DataError


@st.composite
def samples(draw: st.DrawFn) -> tuple[list[str], list[int], int]:
    n_splits = draw(st.integers(2, 4))
    sizes = draw(st.lists(st.integers(1, 3), min_size=2 * n_splits, max_size=20))
    groups, labels = [], []
    for number, size in enumerate(sizes):
        groups += [f"patient{number}"] * size
        labels += [number % 2] * size
    order = draw(st.permutations(range(len(groups))))
    return [groups[i] for i in order], [labels[i] for i in order], n_splits


@given(samples(), st.integers(0, 100))
@settings(max_examples=50, deadline=None)
def test_folds_are_disjoint_covering_grouped_and_independent_of_order(sample, shuffle: int) -> None:
    groups, labels, n_splits = sample
    folds = grouped_stratified_folds(groups, labels, n_splits, seed=1)
    assert len(folds) == n_splits
    assert sorted(np.concatenate([val for _, val in folds])) == list(range(len(groups)))
    for train, val in folds:
        assert sorted([*train, *val]) == list(range(len(groups)))
        assert not {groups[i] for i in train} & {groups[i] for i in val}

    order = random.Random(shuffle).sample(range(len(groups)), len(groups))
    again = grouped_stratified_folds([groups[i] for i in order], [labels[i] for i in order], n_splits, seed=1)
    for (_, val), (_, val_again) in zip(folds, again, strict=True):
        assert {groups[i] for i in val} == {groups[order[i]] for i in val_again}


def test_class_shares_are_kept_in_every_fold() -> None:
    groups, labels = [f"p{i:03d}" for i in range(285)], [0] * 75 + [1] * 210
    for _, val in grouped_stratified_folds(groups, labels):
        assert [sum(labels[i] == label for i in val) for label in (0, 1)] == [15, 42]


def test_seed_changes_the_folds() -> None:
    groups, labels = [f"p{i}" for i in range(40)], [0, 1] * 20
    first, other = (grouped_stratified_folds(groups, labels, seed=seed)[0][1].tolist() for seed in (1, 2))
    assert first != other


@pytest.mark.parametrize(
    ("groups", "labels", "message"),
    [
        (["a", "b", "c", "d"], [0, 1, 1, 1], "class 0 has 1 groups, too few for 2 folds"),
        (["a", "a", "b", "c"], [0, 0, 1, 1], "class 0 has 1 groups"),
        (["a", "b"], [0], "2 groups but 1 labels"),
        ([], [], "need samples"),
    ],
    ids=["too_few", "one_patient", "lengths", "nothing"],
)
def test_impossible_splits_are_errors(groups: list[str], labels: list[int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        grouped_stratified_folds(groups, labels, 2)


def test_class_counts_are_in_class_order() -> None:
    assert class_counts([{"label": 1}, {"label": np.int64(0)}, {"label": 1}], 2) == [1, 2]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 0], r"no sample of class \[1\]"),
        ([0, 2], "has label 2, expected an integer from 0 to 1"),
        ([0, -1], "has label -1"),
        ([0, 1.0], r"has label 1\.0"),
        ([0, "1"], "has label '1'"),
        ([0, None], "has label None"),
        ([0, True], "has label True"),
    ],
)
def test_wrong_labels_are_errors(labels: list, message: str) -> None:
    with pytest.raises(DataError, match=message):
        class_counts([{"case": "x", "label": label} for label in labels], 2)
