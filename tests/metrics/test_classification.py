from __future__ import annotations

import json

import numpy as np
import pytest
import sklearn.metrics as sk
from scipy.stats import binomtest
from sklearn.metrics import f1_score, roc_auc_score

from monai_ext.errors import DataError
from monai_ext.metrics import bootstrap_interval, classification_intervals, classification_metrics

# HGG probabilities of six cases, counted by hand: LGG .1 .4 .7, HGG .2 .6 .9.
HGG = np.array([0.1, 0.4, 0.7, 0.2, 0.6, 0.9])
PROBABILITIES = np.stack([1 - HGG, HGG], axis=1)
LABELS = np.array([0, 0, 0, 1, 1, 1])
CASES = ["a", "b", "c", "d", "e", "f"]


def test_binary_metrics_equal_those_counted_by_hand() -> None:
    result = classification_metrics(PROBABILITIES, LABELS, ["LGG", "HGG"], cases=CASES)
    assert result.confusion_matrix == [[2, 1], [1, 2]]
    # 6 of 9 pairs are in the right order.
    names = ("accuracy", "precision", "recall", "f1", "f1_weighted", "auc")
    assert result.metrics == pytest.approx(dict.fromkeys(names, 2 / 3))
    assert result.per_class["HGG"] == pytest.approx(
        {"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3, "support": 3, "auroc": 2 / 3}
    )
    assert result.skipped == []


def test_mistakes_are_counted_and_named() -> None:
    result = classification_metrics(PROBABILITIES, LABELS, ["LGG", "HGG"], cases=CASES)
    assert result.false_negatives is not None
    assert result.false_positives is not None
    assert (result.false_negatives.description, result.false_negatives.count) == ("false negatives (missed HGG)", 1)
    assert result.false_negatives.cases == ["d"]
    assert result.false_positives.cases == ["c"]


def test_positive_class_can_be_the_first() -> None:
    result = classification_metrics(PROBABILITIES, LABELS, ["LGG", "HGG"], positive="LGG", cases=CASES)
    assert result.false_negatives is not None
    assert result.false_negatives.description == "false negatives (missed LGG)"
    assert result.false_negatives.cases == ["c"]


def test_one_class_fold_says_so_and_has_no_auc() -> None:
    result = classification_metrics(PROBABILITIES[3:], LABELS[3:], ["LGG", "HGG"])
    assert result.metrics["auc"] is None
    assert result.metrics["accuracy"] == pytest.approx(2 / 3)
    assert result.metrics["recall"] == pytest.approx(2 / 3)
    assert result.per_class["LGG"] == {"precision": None, "recall": None, "f1": None, "support": 0, "auroc": None}
    assert result.skipped == ["auc: the validation set holds only class HGG (3 cases)"]


def test_multi_class_auc_is_macro_one_against_rest() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 40)
    scores = rng.dirichlet(np.ones(3), 40)
    result = classification_metrics(scores, labels, ["a", "b", "c"])
    expected = roc_auc_score(labels, scores, multi_class="ovr", average="macro")
    assert result.metrics["auc"] == pytest.approx(expected)
    assert result.false_negatives is None


def test_averages_are_scikit_learn_s() -> None:
    rng = np.random.default_rng(1)
    labels = rng.choice(3, 40, p=[0.7, 0.2, 0.1])
    scores = rng.dirichlet(np.ones(3), 40) + 0.4 * np.eye(3)[labels]
    found = classification_metrics(scores / scores.sum(1, keepdims=True), labels, ["a", "b", "c"]).metrics
    predictions = scores.argmax(1)
    for name, average in (("f1", "macro"), ("f1_weighted", "weighted"), ("accuracy", "micro")):
        assert found[name] == pytest.approx(f1_score(labels, predictions, average=average)), name


def test_absent_class_is_left_out_of_the_averages_and_named() -> None:
    scores = np.eye(3)[[0, 1, 0, 1]]
    result = classification_metrics(scores, [0, 1, 0, 1], ["a", "b", "c"])
    names = ("accuracy", "top2_accuracy", "precision", "recall", "f1", "f1_weighted", "auc")
    assert result.metrics == dict.fromkeys(names, 1.0)
    assert result.skipped == ["precision, recall, f1 and auroc of class c: no case of it; averages leave it out"]


def test_non_finite_outputs_give_no_metric_and_name_the_case() -> None:
    scores = PROBABILITIES.copy()
    scores[4] = np.nan
    result = classification_metrics(scores, LABELS, ["LGG", "HGG"], cases=CASES)
    assert set(result.metrics.values()) == {None}
    assert result.skipped == ["all metrics: the outputs of 1 of 6 cases are not finite, first e"]
    assert classification_intervals(result) == {}


@pytest.mark.parametrize(
    ("scores", "labels", "match"),
    [
        pytest.param(PROBABILITIES, LABELS + 1, r"integers in 0\.\.1, got \[1 2\]", id="one-based"),
        pytest.param(PROBABILITIES, LABELS[:4], r"got \(6, 2\) and \(4,\)", id="lengths-differ"),
        pytest.param(HGG, LABELS, r"expected probabilities \(N, 2\)", id="one-column"),
        pytest.param(PROBABILITIES[:0], LABELS[:0], "no cases", id="empty"),
        pytest.param(PROBABILITIES, LABELS + 0.5, "must be integers", id="fractional"),
    ],
)
def test_wrong_input_is_refused(scores: np.ndarray, labels: np.ndarray, match: str) -> None:
    with pytest.raises(DataError, match=match):
        classification_metrics(scores, labels, ["LGG", "HGG"])


def test_unknown_positive_class_is_refused() -> None:
    with pytest.raises(DataError, match=r"one of \['LGG', 'HGG'\], got 'GBM'"):
        classification_metrics(PROBABILITIES, LABELS, ["LGG", "HGG"], positive="GBM")


def test_result_is_json_and_rows_name_classes() -> None:
    result = classification_metrics(PROBABILITIES, LABELS, ["LGG", "HGG"], cases=CASES)
    content = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert content["false_positives"]["cases"] == ["c"]
    assert "probabilities" not in content
    assert result.rows()[3] == {"case": "d", "prob_LGG": 0.8, "prob_HGG": 0.2, "prediction": "LGG", "label": "HGG"}


def test_bootstrap_keeps_the_class_counts_of_every_resample() -> None:
    seen = []

    def count(_: np.ndarray, labels: np.ndarray) -> float:
        seen.append(tuple(np.bincount(labels)))
        return 0.0

    bootstrap_interval(count, np.zeros((7, 2)), [0, 0, 1, 1, 1, 1, 1], n=20)
    assert set(seen) == {(2, 5)}


def test_bootstrap_interval_of_accuracy_matches_the_normal_approximation() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], 200)
    hit = rng.random(400) < 0.8
    scores = np.eye(2)[np.where(hit, labels, 1 - labels)]
    interval = bootstrap_interval(lambda p, y: float(np.mean(p.argmax(1) == y)), scores, labels)
    assert interval is not None
    half = 1.96 * np.sqrt(hit.mean() * (1 - hit.mean()) / 400)
    assert interval == pytest.approx((hit.mean() - half, hit.mean() + half), abs=0.01)


def test_bootstrap_is_reproducible_and_leaves_out_what_is_not_computable() -> None:
    result = classification_metrics(np.tile(PROBABILITIES, (8, 1)), np.tile(LABELS, 8), ["LGG", "HGG"])
    first = classification_intervals(result, n=50)
    assert first == classification_intervals(result, n=50)
    low, high = first["auc"].ends
    assert low < result.metrics["auc"] < high
    one_class = classification_metrics(PROBABILITIES[3:], LABELS[3:], ["LGG", "HGG"])
    assert "auc" not in classification_intervals(one_class, n=50)
    assert bootstrap_interval(lambda p, y: None, PROBABILITIES, LABELS, n=5) is None


def test_a_perfect_small_sample_is_not_estimable_instead_of_certain() -> None:
    labels = np.repeat([0, 1], [3, 9])
    found = classification_intervals(classification_metrics(np.eye(2)[labels], labels, ["LGG", "HGG"]))
    for name in ("auc", "f1", "precision", "recall", "f1_weighted", "auroc/HGG"):
        assert found[name].ends is None
        assert found[name].reason.endswith(": 3, fewer than 10")
    accuracy = found["accuracy"]
    assert accuracy[1:] == ("Wilson", "cases", 12, None)
    assert accuracy.ends == pytest.approx(tuple(binomtest(12, 12).proportion_ci(method="wilson")))
    assert found["recall/LGG"].n == 3
    assert found["recall/LGG"].ends[0] < 0.5


def test_resamples_that_don_t_vary_give_no_interval() -> None:
    labels = np.repeat([0, 1], 20)
    found = classification_intervals(classification_metrics(np.eye(2)[labels], labels, ["LGG", "HGG"]), n=50)
    assert found["auc"].ends is None
    assert found["auc"].reason == "the resamples don't vary"
    low, high = found["accuracy"].ends
    assert low < high
    assert bootstrap_interval(lambda p, y: 1.0, np.eye(2)[labels], labels, n=50) is None


def test_cases_of_one_patient_are_drawn_together() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 15)
    scores = np.clip(rng.normal(0.3 + 0.3 * labels, 0.3), 0, 1)
    once = classification_metrics(np.stack([1 - scores, scores], axis=1), labels, ["a", "b"])
    rows = np.repeat(np.arange(30), 8)
    patients = {"patient": [f"p{row}" for row in rows]}
    often = classification_metrics(once.probabilities[rows], labels[rows], ["a", "b"], columns=patients)
    of_cases, of_patients = classification_intervals(once, n=200), classification_intervals(often, n=200)
    assert of_patients["accuracy"][1:] == ("bootstrap", "patients", 30, None)
    assert of_patients["auc"].ends == pytest.approx(of_cases["auc"].ends)
    pretended = classification_intervals(classification_metrics(often.probabilities, often.labels, ["a", "b"]), n=200)
    assert np.diff(pretended["auc"].ends) < 0.6 * np.diff(of_patients["auc"].ends)


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("absent", [0, 1])
def test_intervals_are_those_of_scikit_learn_on_every_resample(monkeypatch, classes: int, absent: int) -> None:
    rng = np.random.default_rng(classes)
    labels = rng.permutation(np.arange(20 * classes) % (classes - absent))
    scores = rng.dirichlet(np.ones(classes), len(labels)).round(1)  # many ties
    monkeypatch.setattr("monai_ext.metrics.bootstrap._ENTRIES", 7 * len(labels))  # seven resamples at a time
    monkeypatch.setattr("monai_ext.metrics.intervals.Units.are_rows", False)  # proportions by bootstrap, too
    found = classification_intervals(classification_metrics(scores, labels, list("abcde")[:classes]), n=60, seed=3)
    found = {name: interval.ends for name, interval in found.items() if "/" not in name and interval.ends is not None}
    expected = {
        name: bootstrap_interval(metric, scores, labels, n=60, seed=3)
        for name, metric in of_scikit_learn(classes).items()
    }
    assert found.keys() == {name for name, interval in expected.items() if interval is not None}
    for name, interval in found.items():
        assert interval == pytest.approx(expected[name], abs=1e-12), name


def of_scikit_learn(classes: int) -> dict:
    """Name of a metric → function of probabilities and labels; averages are over the classes that have cases."""

    def averaged(function, average="macro"):
        return lambda p, y: function(y, p.argmax(1), labels=np.unique(y), average=average, zero_division=0)

    def area(p, y):
        columns = [1] if classes == 2 else np.unique(y)
        return np.mean([sk.roc_auc_score(y == c, p[:, c]) for c in columns]) if len(np.unique(y)) > 1 else None

    def top2(p, y):
        higher = (p > p[np.arange(len(y)), y][:, None]).sum(1)
        tied_before = [(row[:label] == row[label]).sum() for row, label in zip(p, y, strict=True)]
        return np.mean(higher + tied_before < 2)

    return {
        "accuracy": lambda p, y: sk.accuracy_score(y, p.argmax(1)),
        **({"top2_accuracy": top2} if classes > 2 else {}),
        "precision": averaged(sk.precision_score),
        "recall": averaged(sk.recall_score),
        "f1": averaged(sk.f1_score),
        "f1_weighted": averaged(sk.f1_score, "weighted"),
        "auc": area,
    }
