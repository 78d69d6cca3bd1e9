from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monai_ext.data.splits import class_counts, grouped_stratified_folds, with_inner
from monai_ext.errors import ConfigError, DataError


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


def of_patients(labels: list, cases: int = 2) -> dict:
    items = [
        {"case": f"p{n}_{case}", "patient": f"p{n}", "label": label}
        for n, label in enumerate(labels)
        for case in range(cases)
    ]
    return {"train": items, "val": [{"case": "v", "patient": "v", "label": 0}]}


@pytest.mark.parametrize("kind", ["number", "labels", "none"])
def test_the_inner_part_is_a_share_of_the_patients_of_each_class(kind: str) -> None:
    parts = of_patients([0] * 20 + [1] * 10)
    for item in parts["train"] if kind == "labels" else ():
        item["label"] = np.eye(2)[item["label"]].astype(np.float32)
    for item in parts["train"] if kind == "none" else ():
        del item["label"]
    found = with_inner(parts, 0.2, seed=1)
    assert list(found) == ["train", "val", "inner"]
    assert found["val"] == parts["val"]
    inner, rest = ({item["patient"] for item in found[part]} for part in ("inner", "train"))
    assert not inner & rest
    assert len(found["inner"]) + len(found["train"]) == 60
    assert len(inner) == 6
    if kind != "none":
        assert len(inner & {f"p{n}" for n in range(20)}) == 4


def test_the_inner_part_depends_on_the_seed_alone_and_none_is_the_default() -> None:
    parts = of_patients([0, 1] * 20)
    shuffled = {**parts, "train": parts["train"][::-1]}
    patients = [
        {item["patient"] for item in with_inner(given, 0.25, seed)["inner"]}
        for given, seed in ((parts, 1), (shuffled, 1), (parts, 2))
    ]
    assert patients[0] == patients[1] != patients[2]
    assert with_inner(parts, 0) is parts


def test_a_class_of_two_patients_is_on_both_sides_and_too_few_are_refused() -> None:
    found = with_inner(of_patients([0] * 10 + [1] * 2, cases=1), 0.1)
    assert [sum(item["label"] for item in found[part]) for part in ("train", "inner")] == [1, 1]
    with pytest.raises(DataError, match="1 training patients are too few"):
        with_inner(of_patients([0]), 0.2)
    with pytest.raises(ConfigError, match="--inner_fraction 1: must be from 0 to below 1"):
        with_inner(of_patients([0, 1]), 1)
