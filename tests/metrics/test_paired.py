import numpy as np
import pytest
from scipy.stats import kstest, norm
from sklearn.metrics import roc_auc_score

from monai_ext.metrics import classification_metrics
from monai_ext.metrics.paired import delong, paired_differences
from monai_ext.metrics.rows import rows_of as as_rows


def rows_of(scores, labels, patients=None):
    columns = None if patients is None else {"patient": patients}
    probabilities = np.stack([1 - scores, scores], axis=1)
    cases = [f"c{n}" for n in range(len(labels))]
    return as_rows(classification_metrics(probabilities, labels, ["a", "b"], cases=cases, columns=columns), "cases")


def two(count=80, seed=0, gain=0.0):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % 2)
    common = rng.normal(labels, 1)
    scores = [1 / (1 + np.exp(-(common + rng.normal(better * labels, 0.7)))) for better in (0, gain)]
    return *scores, labels


def of_definition(first, second, labels):
    """Variance by the structural components as they are printed in the paper."""
    components = []
    for scores in (first, second):
        pairs = (scores[labels == 1][:, None] > scores[labels == 0]) + 0.5 * (
            scores[labels == 1][:, None] == scores[labels == 0]
        )
        components.append((pairs.mean(axis=1), pairs.mean(axis=0)))
    covariance = sum(np.cov([components[0][side], components[1][side]]) / len(components[0][side]) for side in (0, 1))
    contrast = np.array([-1, 1])
    return np.sqrt(contrast @ covariance @ contrast)


@pytest.mark.parametrize("digits", [1, 9])
def test_delong_is_that_of_its_definition_with_ties_too(digits):
    first, second, labels = two()
    first, second = first.round(digits), second.round(digits)
    difference, error = delong(first, second, labels)
    assert difference == pytest.approx(roc_auc_score(labels, second) - roc_auc_score(labels, first))
    assert error == pytest.approx(of_definition(first, second, labels))


def test_p_is_uniform_where_there_is_no_difference():
    found = []
    for seed in range(400):
        difference, error = delong(*two(count=200, seed=seed))
        found.append(2 * norm.sf(abs(difference) / error))
    assert kstest(found, "uniform").pvalue > 0.01
    assert np.mean(np.array(found) < 0.05) == pytest.approx(0.05, abs=0.03)


def auc(labels, scores):
    """As scikit-learn's, for scores that all differ, in a twentieth of its time."""
    return (scores[labels == 1, None] > scores[labels == 0]).mean()


def test_the_error_is_that_of_a_permutation_of_the_networks():
    first, second, labels = two(count=120, seed=4)
    rng = np.random.default_rng(0)
    permuted = []
    for _ in range(1000):
        swapped = rng.random(120) < 0.5
        one, other = np.where(swapped, second, first), np.where(swapped, first, second)
        permuted.append(auc(labels, other) - auc(labels, one))
    _, error = delong(first, second, labels)
    assert error == pytest.approx(np.std(permuted), rel=0.15)


def test_a_better_network_is_found_and_methods_are_named():
    first, second, labels = two(count=200, gain=2.0)
    found = paired_differences(rows_of(first, labels), rows_of(second, labels), n=500)
    assert found["auc"].method == "DeLong"
    assert found["accuracy"].method == "paired bootstrap"
    for each in (found["auc"], found["accuracy"]):
        assert each.p < 0.01
        assert 0 < each.ends[0] < each.second - each.first < each.ends[1]
        assert (each.unit, each.n) == ("cases", 200)


def test_patients_with_several_cases_are_drawn_together():
    first, second, labels = two(count=40, gain=0.6)
    often = np.repeat(np.arange(40), 10)
    patients = [f"p{n}" for n in often]
    once = paired_differences(rows_of(first, labels), rows_of(second, labels), n=1000)["f1"]
    many = [rows_of(scores[often], labels[often], patients) for scores in (first, second)]
    found = paired_differences(*many, n=1000)
    assert found["auc"].method == "paired bootstrap"
    assert (found["f1"].unit, found["f1"].n) == ("patients", 40)
    assert found["f1"].ends == pytest.approx(once.ends)


def test_few_cases_of_a_class_and_equal_networks_say_so():
    first, second, labels = two(count=12)
    found = paired_differences(rows_of(first, labels), rows_of(second, labels), n=50)
    assert {each.reason for each in found.values()} == {"cases of class a: 6, fewer than 10"}
    assert {each.p for each in found.values()} == {None}
    first, _, labels = two()
    same = paired_differences(rows_of(first, labels), rows_of(first, labels), n=50)
    assert same["auc"].reason == "both rank all cases alike"
    assert same["f1"].reason == "the resamples don't vary"
