import numpy as np
import pytest

from monai_ext.errors import DataError
from monai_ext.metrics import CrossFitted, apply_platt, best_threshold, calibration_line, fit_platt


def cases(count=200, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % 2)
    return 1 / (1 + np.exp(-rng.normal(2 * labels - 1, 1.5))), labels, np.arange(count) % 4 + 1


def test_a_fold_has_the_calibration_and_threshold_of_the_others():
    scores, labels, folds = cases()
    found = CrossFitted(scores, labels, folds)
    own = folds == 3
    platt = fit_platt(scores[~own], labels[~own])
    threshold = best_threshold(apply_platt(scores[~own], **platt), labels[~own])
    np.testing.assert_allclose(found.calibrated[own], apply_platt(scores[own], **platt))
    assert found.predicted[own].tolist() == (found.calibrated[own] >= threshold).tolist()
    assert found.folds[2] == {"fold": 3, **platt, "threshold": threshold}


def test_labels_of_a_fold_change_nothing_in_it():
    scores, labels, folds = cases()
    first, turned = CrossFitted(scores, labels, folds), labels.copy()
    turned[folds == 1] = 1 - turned[folds == 1]
    second = CrossFitted(scores, turned, folds)
    own = folds == 1
    np.testing.assert_array_equal(first.calibrated[own], second.calibrated[own])
    np.testing.assert_array_equal(first.predicted[own], second.predicted[own])


def test_noise_has_a_balanced_accuracy_of_a_half_where_the_threshold_was_chosen_elsewhere():
    """On the very cases that it was chosen on, it looks better than chance."""
    rng = np.random.default_rng(1)
    fitted, crossed = [], []
    for _ in range(150):
        scores, labels, folds = rng.random(60), rng.permutation(np.arange(60) % 2), np.arange(60) // 2 % 5
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("warnings.warn", lambda *_, **__: None)  # slopes below 0 are expected of noise
            found = CrossFitted(scores, labels, folds)
        crossed.append(np.mean([(found.predicted[labels == c] == c).mean() for c in (0, 1)]))
        at_best = scores >= best_threshold(scores, labels)
        fitted.append(np.mean([(at_best[labels == c] == c).mean() for c in (0, 1)]))
    assert np.mean(crossed) < 0.52
    assert np.mean(fitted) > 0.55


def test_the_record_says_where_thresholds_come_from_and_has_intervals():
    scores, labels, folds = cases()
    found = CrossFitted(scores, labels, folds).record(["no", "yes"], {}, "cases")
    assert found["thresholds_chosen_on"] == "the other folds"
    assert found["interval_methods"]["recall/yes"] == {"method": "Wilson", "unit": "cases", "n": 100}
    assert not [name for name in found["metrics"] if "au" in name]
    assert found["calibration"]["slope"] == pytest.approx(1, abs=0.3)


def test_other_folds_of_one_class_are_refused():
    with pytest.raises(DataError, match="needs cases of both classes"):
        CrossFitted([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1], [1, 1, 2, 2])


def test_slope_and_intercept_undo_a_known_distortion():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, 20000)
    labels = rng.random(20000) < 1 / (1 + np.exp(-logits))
    perfect = calibration_line(1 / (1 + np.exp(-logits)), labels)
    assert perfect["slope"] == pytest.approx(1, abs=0.05)
    assert perfect["intercept"] == pytest.approx(0, abs=0.05)
    assert calibration_line(1 / (1 + np.exp(-2 * logits)), labels)["slope"] == pytest.approx(0.5, abs=0.05)
    assert calibration_line(1 / (1 + np.exp(-logits + 1)), labels)["intercept"] == pytest.approx(1, abs=0.05)
    assert calibration_line([0.1, 0.2, 0.8], [0, 0, 1])["slope"] is None
