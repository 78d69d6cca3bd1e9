from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn import metrics as sk

from monai_ext.errors import ConfigError, DataError
from monai_ext.metrics import choose_thresholds, merge_label_parts, multi_label_intervals, multi_label_metrics
from monai_ext.metrics.multi_label_scores import LabelScores

# Counted by hand: four cases; "nodule" is ranked 1 0 1 0, "fluid" 1 1 0 0; nobody has "hernia".
NAMES = ["nodule", "fluid", "hernia"]
PROBABILITIES = np.array([[0.9, 0.8, 0.1], [0.7, 0.1, 0.2], [0.4, 0.6, 0.6], [0.2, 0.3, 0.1]])
LABELS = np.array([[1, 1, 0], [0, 0, 0], [1, 1, 0], [0, 0, 0]])
CASES = ["a", "b", "c", "d"]


def random_case(rows: int = 60, classes: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """With ties, as probabilities rounded to a tenth have."""
    rng = np.random.default_rng(seed)
    labels = rng.random((rows, classes)) < np.linspace(0.1, 0.6, classes)
    return np.clip(rng.normal(0.4 + 0.2 * labels, 0.2), 0, 1).round(1), labels


def test_metrics_equal_those_counted_by_hand() -> None:
    result = multi_label_metrics(PROBABILITIES, LABELS, NAMES)
    nodule = {"auroc": 3 / 4, "average_precision": (1 + 2 / 3) / 2, "f1": 0.5, "precision": 0.5, "recall": 0.5}
    assert result.per_class["nodule"] == pytest.approx({**nodule, "accuracy": 0.5, "support": 2})
    perfect = dict.fromkeys(("auroc", "average_precision", "f1", "precision", "recall", "accuracy"), 1.0)
    assert result.per_class["fluid"] == pytest.approx({**perfect, "support": 2})
    assert result.metrics["auroc"] == pytest.approx(7 / 8)
    assert result.metrics["f1"] == pytest.approx(3 / 4)
    assert result.metrics["precision_micro"] == pytest.approx(3 / 4)
    assert result.metrics["recall_micro"] == pytest.approx(3 / 4)
    # Wrong entries: nodule of b and of c; hernia, which nobody has, doesn't count.
    assert result.metrics["hamming"] == pytest.approx(2 / 8)
    assert result.metrics["exact_match"] == pytest.approx(2 / 4)


@pytest.mark.parametrize(("value", "word"), [(0, "negative"), (1, "positive")])
def test_a_class_with_one_value_is_told_and_no_zero_in_an_average(value, word) -> None:
    labels = LABELS.copy()
    labels[:, 2] = value
    result = multi_label_metrics(PROBABILITIES, labels, NAMES)
    assert result.per_class["hernia"] == {
        **dict.fromkeys(("auroc", "average_precision", "f1", "precision", "recall", "accuracy")),
        "support": 4 * value,
    }
    assert result.skipped == [
        f"class hernia: all 4 cases are {word}; it has no scores, and averages, hamming and exact_match leave it out"
    ]
    two = multi_label_metrics(PROBABILITIES[:, :2], labels[:, :2], NAMES[:2])
    assert result.metrics == two.metrics


def test_nothing_to_score_is_none_everywhere() -> None:
    result = multi_label_metrics(PROBABILITIES, np.zeros((4, 3)), NAMES)
    assert result.metrics["auroc"] is None
    assert result.metrics["auroc_micro"] is None
    assert result.metrics["f1"] is None
    assert len(result.skipped) == 3
    assert set(result.metrics.values()) == {None}


@pytest.mark.parametrize("average", ["macro", "micro"])
def test_scores_equal_scikit_learn_s(average) -> None:
    scores, labels = random_case()
    found = multi_label_metrics(scores, labels, list("abcde")).metrics
    suffix = "" if average == "macro" else "_micro"
    expected = {
        "auroc": sk.roc_auc_score(labels, scores, average=average),
        "average_precision": sk.average_precision_score(labels, scores, average=average),
    }
    decided = sk.precision_recall_fscore_support(labels, scores >= 0.5, average=average, zero_division=0)
    expected |= dict(zip(("precision", "recall", "f1"), decided, strict=False))
    for name, value in expected.items():
        assert found[name + suffix] == pytest.approx(value), name
    assert found["hamming"] == pytest.approx(sk.hamming_loss(labels, scores >= 0.5))
    assert found["exact_match"] == pytest.approx(sk.accuracy_score(labels, scores >= 0.5))


def test_weighted_scores_equal_those_of_the_resample() -> None:
    scores, labels = random_case(rows=200)
    thresholds = [0.3, 0.4, 0.5, 0.6, 0.7]
    weights = np.random.default_rng(1).integers(0, 4, (3, 200)).astype(float)
    by_class, overall = LabelScores(scores, labels, thresholds)(weights)
    for number, row in enumerate(weights):
        drawn = np.repeat(np.arange(200), row.astype(int))
        expected = multi_label_metrics(scores[drawn], labels[drawn], list("abcde"), thresholds)
        assert {name: values[number] for name, values in overall.items()} == pytest.approx(expected.metrics)
        for name, values in by_class.items():
            of_resample = np.array([expected.per_class[c][name] for c in "abcde"], dtype=float)  # None is NaN
            assert values[number] == pytest.approx(of_resample, nan_ok=True)


def test_tuned_scores_stand_beside_those_at_one_half() -> None:
    thresholds = choose_thresholds(PROBABILITIES, LABELS)
    plain = multi_label_metrics(PROBABILITIES, LABELS, NAMES)
    tuned = multi_label_metrics(PROBABILITIES, LABELS, NAMES, thresholds)
    # From 0.3 on, nodule is found in a, b and c: precision 2/3, recall 1.
    assert thresholds == pytest.approx([0.3, 0.5, 0.5])
    assert tuned.per_class["nodule"]["f1_tuned"] == pytest.approx(0.8)
    assert tuned.per_class["nodule"]["threshold"] == pytest.approx(0.3)
    assert {name: tuned.metrics[name] for name in plain.metrics} == plain.metrics
    assert tuned.metrics["f1_tuned"] == pytest.approx(0.9)
    assert tuned.metrics["exact_match_tuned"] == pytest.approx(3 / 4)
    assert tuned.predictions[2].tolist() == [True, True, True]
    assert plain.predictions[2].tolist() == [False, True, True]


def test_chosen_thresholds_are_the_best_of_all() -> None:
    scores, labels = random_case()
    for number, threshold in enumerate(choose_thresholds(scores, labels)):
        reached = sk.f1_score(labels[:, number], scores[:, number] >= threshold)
        others = [sk.f1_score(labels[:, number], scores[:, number] >= cut) for cut in np.linspace(0, 1, 101)]
        assert reached == pytest.approx(max(others))


def test_rows_name_every_class_three_times() -> None:
    result = multi_label_metrics(PROBABILITIES, LABELS, NAMES, cases=CASES, columns={"slice_index": [4, 5, 6, 7]})
    row = result.rows()[2]
    parts = [f"{part}_{name}" for part in ("prob", "pred", "label") for name in NAMES]
    assert list(row) == ["case", "slice_index", *parts]
    assert row["case"] == "c"
    assert [row[name] for name in parts] == [0.4, 0.6, 0.6, 0, 1, 1, 1, 1, 0]


def test_result_is_json() -> None:
    result = multi_label_metrics(PROBABILITIES, LABELS, NAMES, [0.3, 0.5, 0.5], CASES)
    content = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert content["per_class"]["nodule"]["support"] == 2
    assert content["thresholds"] == [0.3, 0.5, 0.5]
    assert "probabilities" not in content


def test_non_finite_outputs_give_no_metric_and_name_the_case() -> None:
    scores = PROBABILITIES.copy()
    scores[1, 0] = np.nan
    result = multi_label_metrics(scores, LABELS, NAMES, cases=CASES)
    assert set(result.metrics.values()) == {None}
    assert result.metrics.keys() == multi_label_metrics(PROBABILITIES, LABELS, NAMES).metrics.keys()
    assert result.skipped == ["all metrics: the outputs of 1 of 4 cases are not finite, first b"]
    assert multi_label_intervals(result) == {}
    json.dumps(result.to_dict(), allow_nan=False)


# Two volumes of two slices each.
VOLUMES = ["v1", "v1", "v2", "v2"]
OF_VOLUMES = [[1, 1, 0], [1, 1, 0], [0, 0, 1], [0, 0, 1]]


@pytest.mark.parametrize(
    ("how", "expected"),
    [("mean", [[0.8, 0.45, 0.15], [0.3, 0.45, 0.35]]), ("max", [[0.9, 0.8, 0.2], [0.4, 0.6, 0.6]])],
)
def test_volumes_have_the_mean_or_the_largest_of_their_slices(how, expected) -> None:
    slices = multi_label_metrics(PROBABILITIES, OF_VOLUMES, NAMES, cases=VOLUMES)
    volumes = merge_label_parts(slices, how)
    assert volumes.cases == ["v1", "v2"]
    np.testing.assert_allclose(volumes.probabilities, expected)
    assert volumes.labels.tolist() == [[True, True, False], [False, False, True]]
    assert volumes.metrics["hamming"] == pytest.approx({"mean": 2 / 6, "max": 1 / 6}[how])


def test_slices_of_a_volume_with_different_labels_are_refused() -> None:
    slices = multi_label_metrics(PROBABILITIES, LABELS, NAMES, cases=VOLUMES)
    with pytest.raises(DataError, match="case 'v1' has parts labelled"):
        merge_label_parts(slices)
    with pytest.raises(ConfigError, match="how must be one of mean, max, got 'median'"):
        merge_label_parts(slices, "median")


def test_intervals_are_those_of_a_plain_bootstrap() -> None:
    scores, labels = random_case(rows=120)
    found = multi_label_intervals(multi_label_metrics(scores, labels, list("abcde")), n=1000)
    rng = np.random.default_rng(7)
    drawn = [rng.integers(0, 120, 120) for _ in range(300)]
    for name, metric in (("auroc/e", sk.roc_auc_score), ("average_precision/e", sk.average_precision_score)):
        plain = np.quantile([metric(labels[rows, 4], scores[rows, 4]) for rows in drawn], [0.025, 0.975])
        assert found[name].ends == pytest.approx(plain, abs=0.02)


def test_intervals_are_reproducible_and_contain_the_metric() -> None:
    result = multi_label_metrics(*random_case(rows=200), list("abcde"), [0.4] * 5)
    first = multi_label_intervals(result, n=200)
    assert first == multi_label_intervals(result, n=200)
    assert set(result.metrics) <= set(first)
    for name, value in result.metrics.items():
        low, high = first[name].ends
        assert low <= value <= high, name


def test_chunks_change_nothing(monkeypatch) -> None:
    result = multi_label_metrics(*random_case(), list("abcde"))
    whole = multi_label_intervals(result, n=50)
    monkeypatch.setattr("monai_ext.metrics.multi_label_bootstrap._ENTRIES", 7 * result.labels.size)
    assert multi_label_intervals(result, n=50) == whole


def test_slices_don_t_count_as_cases_of_their_own() -> None:
    scores, labels = random_case()
    volumes = multi_label_metrics(scores, labels, list("abcde"), cases=[str(n) for n in range(60)])
    twelve = [np.repeat(values, 12, axis=0) for values in (scores, labels)]
    slices = multi_label_metrics(*twelve, list("abcde"), cases=[str(n) for n in range(60) for _ in range(12)])
    of_volumes, of_slices = multi_label_intervals(volumes, n=100), multi_label_intervals(slices, n=100)
    assert of_slices.keys() == of_volumes.keys()
    for name, interval in of_volumes.items():
        assert of_slices[name].n == 60
        if interval.method == "bootstrap" and interval.ends is not None:
            assert of_slices[name].ends == pytest.approx(interval.ends), name


def test_a_proportion_is_wilson_s_where_cases_are_patients_and_a_bootstrap_where_patients_have_several() -> None:
    scores, labels = random_case()
    alone = multi_label_metrics(scores, labels, list("abcde"))
    right = round(alone.metrics["exact_match"] * 60)
    found = multi_label_intervals(alone, n=50)["exact_match"]
    assert found[1:] == ("Wilson", "cases", 60, None)
    assert found.ends == pytest.approx(tuple(binomtest(right, 60).proportion_ci(method="wilson")))
    patients = {"patient": [f"p{n // 2}" for n in range(60)]}
    pairs = multi_label_metrics(scores, labels, list("abcde"), columns=patients)
    assert multi_label_intervals(pairs, n=50)["exact_match"][1:] == ("bootstrap", "patients", 30, None)


def test_a_class_too_rare_for_an_interval_has_none() -> None:
    labels = np.zeros((40, 2))
    labels[:20, 0] = labels[0, 1] = 1
    scores = np.random.default_rng(0).random((40, 2))
    found = multi_label_intervals(multi_label_metrics(scores, labels, ["common", "rare"]), n=100)
    assert found["auroc/common"].ends is not None
    for name in ("auroc/rare", "auroc"):
        assert found[name].ends is None
        assert found[name].reason == "cases with rare: 1, fewer than 10"
    assert found["accuracy/rare"].method == "Wilson"
    assert found["f1_micro"].ends is not None


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        pytest.param((PROBABILITIES[:, :2], LABELS, NAMES), r"got \(4, 2\) and \(4, 3\)", id="classes"),
        pytest.param((PROBABILITIES, LABELS[:2], NAMES), r"got \(4, 3\) and \(2, 3\)", id="rows"),
        pytest.param((PROBABILITIES[:0], LABELS[:0], NAMES), "no cases", id="empty"),
        pytest.param((PROBABILITIES, LABELS * 2, NAMES), r"labels must be 0 or 1, got \[0 2\]", id="two"),
        pytest.param((PROBABILITIES * 3, LABELS, NAMES), "apply a sigmoid", id="logits"),
        pytest.param((PROBABILITIES, LABELS, NAMES, [0.5]), "thresholds must be 3 numbers", id="thresholds"),
        pytest.param((PROBABILITIES, LABELS, NAMES, [0.5, 2, 0]), r"in 0\.\.1, one for each", id="threshold-range"),
        pytest.param(
            (PROBABILITIES, LABELS, NAMES, None, ["a"]), "expected 4 values for case names, got 1", id="names"
        ),
        pytest.param(
            (PROBABILITIES, LABELS, NAMES, None, None, {"z": [1]}), "4 values for column 'z', got 1", id="columns"
        ),
    ],
)
def test_wrong_input_is_refused(arguments, match) -> None:
    with pytest.raises(DataError, match=match):
        multi_label_metrics(*arguments)


def test_wrong_arguments_of_intervals_are_refused() -> None:
    result = multi_label_metrics(PROBABILITIES, LABELS, NAMES)
    with pytest.raises(ValueError, match="level must be within"):
        multi_label_intervals(result, level=95)
