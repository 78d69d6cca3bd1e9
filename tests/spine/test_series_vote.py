from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monai_ext.errors import ConfigError
from monai_ext.spine import series_vote

NAMES = ["T1w", "T2w", "other"]


def one_hot(*labels: int, classes: int = 3) -> np.ndarray:
    return np.eye(classes)[list(labels)]


# Votes of the original: predicted classes, classes that go on, fewest slices, its answer, its majority.
# The order of the slices decides its ties: [5, 5, 2, 2] it refuses, [2, 2, 5, 5] it admits.
ORIGINAL = [
    ([141, 141, 3, 9], range(141, 150), 4, True, 141),
    ([141, 142, 3, 3], range(141, 150), 4, False, 3),
    ([2, 2, 2], [2], 4, False, 2),
    ([2, 2, 5, 5], [2], 4, True, 2),
    ([1], [1], 1, True, 1),
    ([0], [1], 1, False, 0),
    ([3] * 10, [3], 4, True, 3),
]


@pytest.mark.parametrize("method", ["mean", "majority"])
@pytest.mark.parametrize(("labels", "selected", "least", "admitted", "majority"), ORIGINAL)
def test_answers_as_the_original_without_its_fault(labels, selected, least, admitted, majority, method) -> None:
    names = [str(number) for number in range(165)]
    admit = [str(number) for number in selected]
    for order in (labels, labels[::-1]):
        vote = series_vote(one_hot(*order, classes=165), names, least, method=method, admit=admit)
        assert (vote.admitted, vote.label) == (admitted, str(majority))


def test_mean_and_majority_may_differ() -> None:
    slices = [[0.4, 0.6, 0], [0.4, 0.6, 0], [0.4, 0.6, 0], [1.0, 0.0, 0]]
    mean, majority = (series_vote(slices, NAMES, method=method) for method in ("mean", "majority"))
    assert (mean.label, majority.label) == ("T1w", "T2w")
    assert mean.probability == pytest.approx(0.55)
    assert majority.probability == pytest.approx(0.45)
    assert mean.votes == majority.votes == {"T1w": 1, "T2w": 3, "other": 0}


def test_a_tie_of_votes_goes_to_the_higher_mean_then_to_the_first_class() -> None:
    higher = series_vote([[0.6, 0.4, 0], [0.1, 0.9, 0]], NAMES, 1, 0, "majority")
    assert higher.label == "T2w"
    assert [series_vote(one_hot(*labels), NAMES, 1, 0).label for labels in ((2, 1), (1, 2))] == ["T2w", "T2w"]


@given(st.permutations(range(7)))
def test_the_order_of_the_slices_never_matters(order) -> None:
    slices = np.random.default_rng(0).dirichlet([1, 1, 1], 7)
    slices[3:6] = slices[:3, [1, 0, 2]]  # a tie but for the order of the sums
    slices[6] = 1 / 3
    for method in ("mean", "majority"):
        assert series_vote(slices[order], NAMES, method=method) == series_vote(slices, NAMES, method=method)


@pytest.mark.parametrize(
    ("slices", "settings", "reason"),
    [
        (one_hot(1, 1, 1), {}, "has 3 slices, fewer than 4"),
        (one_hot(0, 0, 0, 1), {"admit": ["T2w"]}, r"is T1w \(probability 0.75\); admitted: T2w"),
        (one_hot(0, 1, 2, 1, 0), {}, "is T1w with probability 0.40 only, below 0.5"),
        (np.zeros((0, 3)), {}, "has no slices"),
    ],
    ids=["few", "other-class", "unsure", "none"],
)
def test_what_is_not_admitted_says_why(slices, settings, reason) -> None:
    vote = series_vote(slices, NAMES, **settings)
    assert not vote.admitted
    with pytest.raises(ValueError, match=f"^{reason}$"):
        raise ValueError(vote.reason)


def test_the_threshold_itself_is_enough() -> None:
    vote = series_vote(one_hot(1, 1, 1, 0), NAMES, threshold=0.75, admit=["T2w"])
    assert (vote.admitted, vote.reason) == (True, "")


@pytest.mark.parametrize(
    ("slices", "settings", "error", "message"),
    [
        (one_hot(0), {"method": "median"}, ConfigError, "method must be one of"),
        (one_hot(0), {"threshold": 50}, ConfigError, "threshold must be from 0 to 1, got 50"),
        (one_hot(0), {"admit": ["T3w"]}, ConfigError, "admit has 'T3w', which is no class"),
        (np.zeros((4, 2)), {}, ValueError, r"must be \(N, 3\), one column per class, got \(4, 2\)"),
        (np.full((4, 3), np.nan), {}, ValueError, "got others or NaN"),
        (np.full((4, 3), 2.0), {}, ValueError, "apply a softmax first"),
    ],
    ids=["method", "threshold", "admit", "shape", "nan", "logits"],
)
def test_bad_arguments(slices, settings, error, message) -> None:
    with pytest.raises(error, match=f"series_vote: .*{message}"):
        series_vote(slices, NAMES, **settings)
