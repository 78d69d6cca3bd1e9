"""Each case is judged by the head that its label belongs to."""

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from sklearn.metrics import f1_score, roc_auc_score

from monai_ext.errors import ConfigError
from monai_ext.losses import HeadCrossEntropy
from monai_ext.metrics import head_metrics
from monai_ext.predictions import Classification

NAMES = ["anatomy/brain", "anatomy/spine", "sequence/T1w", "sequence/T2w", "sequence/other"]
LABELS = np.array([0, 1, 1, 0, 1, 2, 3, 4, 2, 3, 4])
LOGITS = np.random.default_rng(1).normal(size=(11, 5)) + 0.5 * np.eye(5)[LABELS]


def make():
    return Classification(NAMES, HeadCrossEntropy(NAMES), "f1", heads=True)


def evaluated(rows=range(11), predictions=None):
    items = [
        {"image": torch.from_numpy(LOGITS[row]), "label": int(LABELS[row]), "case": f"case_{row}", "index": row}
        for row in rows
    ]
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(items), batch_size=4),
        network=torch.nn.Identity(),
        key_val_metric={"f1": predictions or make()},
    )
    evaluator.run()
    return evaluator


def test_numbers_are_means_of_the_heads():
    metrics = evaluated().state.metrics
    anatomy = f1_score(LABELS[:5], LOGITS[:5, :2].argmax(1), average="macro")
    sequence = f1_score(LABELS[5:] - 2, LOGITS[5:, 2:].argmax(1), average="macro")
    assert anatomy != sequence
    assert (metrics["f1_anatomy"], metrics["f1_sequence"]) == pytest.approx((anatomy, sequence))
    assert metrics["f1"] == pytest.approx((anatomy + sequence) / 2)
    expected = torch.nn.functional.cross_entropy
    losses = [expected(torch.from_numpy(LOGITS[:5, :2]), torch.from_numpy(LABELS[:5]), reduction="sum")]
    losses += [expected(torch.from_numpy(LOGITS[5:, 2:]), torch.from_numpy(LABELS[5:] - 2), reduction="sum")]
    assert metrics["loss"] == pytest.approx(float(sum(losses)) / 11)


def test_cases_of_other_heads_are_no_easy_negatives():
    result = evaluated().state.metric_details["classification"]
    expected = roc_auc_score(LABELS[:5], LOGITS[:5, 1] - LOGITS[:5, 0])
    assert result.per_class["anatomy/spine"]["auroc"] == pytest.approx(expected)
    assert list(result.per_class) == NAMES
    np.testing.assert_allclose(result.probabilities.sum(axis=1), 1)
    assert (np.array(result.confusion_matrix)[:2, 2:] == 0).all()


def test_a_head_without_cases_is_said_and_left_out():
    state = evaluated(range(5)).state
    assert np.isnan(state.metrics["f1_sequence"])
    assert state.metrics["f1"] == state.metrics["f1_anatomy"]
    assert state.metric_details["classification"].skipped == ["sequence: no case of it; averages leave it out"]


def test_a_head_with_broken_outputs_spoils_all_numbers():
    probabilities = np.eye(5)[LABELS]
    probabilities[0, :2] = np.nan
    metrics = head_metrics(probabilities, LABELS, NAMES).metrics
    assert set(metrics.values()) == {None}
    assert {"f1", "f1_anatomy", "f1_sequence"} <= set(metrics)


def test_predictions_come_back_from_a_checkpoint_and_have_intervals_of_each_head():
    first, second = make(), make()
    first.take(evaluated(predictions=first))
    second.restore(first.best_state())
    assert second.metrics() == first.metrics()
    content = second.metrics(intervals=True)
    assert set(content["interval_methods"]) == {"f1_anatomy", "f1_sequence"}
    assert content["intervals"] == {}
    assert "fewer than 10" in content["interval_methods"]["f1_anatomy"]["not_estimable"]
    empty = make()
    empty.restore({})
    assert empty.best is None


def test_new_cases_belong_to_no_head():
    predictions = make()
    predictions.update(([{"case": "a", "index": 0}], [{"pred": torch.from_numpy(LOGITS[0])}]))
    with pytest.raises(ConfigError, match="belong to no head"):
        predictions.files()
    for wrong in ({"logits": False}, {"cases": "nuclei", "instances": "crops"}):
        with pytest.raises(ConfigError, match="logits of plain cases"):
            Classification(NAMES, heads=True, **wrong)


def test_classes_need_a_head():
    with pytest.raises(ConfigError, match="class 'T1w': has no head"):
        head_metrics(np.eye(2), [0, 1], ["T1w", "T2w"])
