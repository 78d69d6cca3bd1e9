from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit

from monai_ext.errors import DataError
from monai_ext.metrics import apply_platt, best_threshold, fit_platt


def test_platt_recovers_a_known_miscalibration() -> None:
    rng = np.random.default_rng(0)
    true_logit = rng.normal(0.5, 2, 20_000)
    labels = rng.random(20_000) < expit(true_logit)
    # The network is twice too sure and shifted: the inverse is a = 1/2, b = 1/2.
    fitted = fit_platt(expit(2 * true_logit - 1), labels)
    assert fitted == pytest.approx({"a": 0.5, "b": 0.5}, abs=0.05)
    np.testing.assert_allclose(apply_platt(expit(2 * true_logit - 1), **fitted), expit(true_logit), atol=0.03)


def test_platt_of_separated_scores_is_finite_and_reaches_platts_targets() -> None:
    fitted = fit_platt([0.1] * 3 + [0.9] * 5, [0] * 3 + [1] * 5)
    np.testing.assert_allclose(apply_platt([0.1, 0.9], **fitted), [1 / 5, 6 / 7], atol=1e-4)


def test_identity_calibration_changes_nothing() -> None:
    p = np.array([0.0, 0.2, 0.5, 1.0])
    np.testing.assert_allclose(apply_platt(p, a=1.0, b=0.0), p, atol=1e-6)
    assert np.isfinite(logit(apply_platt(p, a=1.0, b=0.0))).all()


def test_platt_warns_when_the_ranking_is_the_wrong_way_round() -> None:
    with pytest.warns(UserWarning, match="slope is -"):
        fit_platt([0.9, 0.8, 0.1, 0.2], [0, 0, 1, 1])


@pytest.mark.parametrize(
    ("p", "labels", "expected"),
    [
        pytest.param([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1], 0.5, id="separated-middle"),
        pytest.param([0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1], 0.25, id="below-half"),
        pytest.param([0.6, 0.7, 0.8, 0.9], [0, 0, 0, 1], 0.85, id="above-half"),
    ],
)
def test_threshold_lies_between_the_classes(p: list[float], labels: list[int], expected: float) -> None:
    assert best_threshold(p, labels) == pytest.approx(expected)


@pytest.mark.parametrize("criterion", ["balanced_accuracy", "accuracy", "f1"])
def test_threshold_is_best_by_exhaustive_search(criterion: str) -> None:
    from sklearn import metrics

    score = getattr(metrics, f"{criterion}_score")
    rng = np.random.default_rng(3)
    labels = np.repeat([0, 1], [30, 10])
    p = np.round(np.clip(rng.normal(0.3 + 0.3 * labels, 0.2), 0, 1), 2)
    reached = score(labels, p >= best_threshold(p, labels, criterion))
    # The search has no "nobody is positive" end: no score lies above it.
    assert reached == pytest.approx(max(score(labels, p >= t) for t in p))


@pytest.mark.parametrize("function", [fit_platt, best_threshold])
@pytest.mark.parametrize(
    ("p", "labels", "match"),
    [
        pytest.param([0.1, 0.9], [1, 1], "both classes", id="one-class"),
        pytest.param([0.1, np.nan], [0, 1], "probabilities in 0..1", id="nan"),
        pytest.param([-3.0, 3.0], [0, 1], "probabilities in 0..1", id="logits"),
        pytest.param([0.1], [0, 1], r"got \(1,\) and \(2,\)", id="lengths"),
    ],
)
def test_wrong_input_is_refused(function, p, labels, match) -> None:
    with pytest.raises(DataError, match=match):
        function(p, labels)


def test_unknown_criterion_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one of .*'f1'.*, got 'auc'"):
        best_threshold([0.1, 0.9], [0, 1], "auc")
