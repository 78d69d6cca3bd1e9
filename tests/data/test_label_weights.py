from __future__ import annotations

import logging
from collections import Counter

import numpy as np
import pytest
import torch
from monai.data import Dataset

from monai_ext.data import SeededLoader, positive_weights, sample_weights
from monai_ext.data.loader import EpochSampler
from monai_ext.errors import DataError

# Three classes: common, rare, never; the last sample has no label.
LABELS = [[1, 0, 0], [1, 0, 0], [1, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    "labels",
    [LABELS, torch.tensor(LABELS).float(), [{"label": np.array(row)} for row in LABELS]],
    ids=["matrix", "tensor", "items"],
)
def test_positive_weights_are_negatives_per_positive(labels) -> None:
    weights = positive_weights(labels)
    assert weights.dtype == torch.float32
    assert weights.tolist() == pytest.approx([1 / 3, 3, 1])


def test_a_class_with_one_value_only_is_warned_about(caplog) -> None:
    with caplog.at_level(logging.WARNING):
        weights = positive_weights([[1, 0, 0], [1, 0, 1]], ["a", "b", "c"])
    assert weights.tolist() == [1, 1, 1]
    assert "every training sample has 1 for class 'a'" in caplog.text
    assert "every training sample has 0 for class 'b'" in caplog.text
    assert "'c'" not in caplog.text


def test_positive_weights_balance_cross_entropy() -> None:
    labels = torch.tensor(LABELS)[:, :2].float()
    loss = torch.nn.BCEWithLogitsLoss(pos_weight=positive_weights(labels))
    logits = torch.zeros(4, 2, requires_grad=True)
    loss(logits, labels).backward()
    torch.testing.assert_close(logits.grad.sum(dim=0), torch.zeros(2))


def test_a_sample_counts_by_its_rarest_label() -> None:
    # 4/3 for the common label, 4 for the rare one, and 4 for having none.
    weights = np.array([4 / 3, 4 / 3, 4, 4])
    assert sample_weights(LABELS) == pytest.approx(weights / weights.mean())


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([[0, 2]], r"labels must be 0 or 1, got \[2\]"),
        ([[0, 0.5]], r"labels must be 0 or 1, got \[0\.5\]"),
        ([], r"at least one of each, got \(0,\)"),
        ([0, 1], r"a matrix \(samples, classes\)"),
        ([{"label": [0, 1]}, {"case": "b"}], "item 1 has no 'label'"),
    ],
    ids=["two", "fraction", "empty", "one-axis", "unlabelled"],
)
def test_other_labels_are_refused(labels, message) -> None:
    with pytest.raises(DataError, match=message):
        positive_weights(labels)
    with pytest.raises(DataError, match=message):
        sample_weights(labels)


def drawn(sampler: EpochSampler, epoch: int) -> list[tuple[int, ...]]:
    sampler.set_epoch(epoch)
    return list(sampler)


def test_weighted_epochs_draw_in_proportion_and_again_the_same() -> None:
    weights = [1.0] * 900 + [9.0] * 100
    sampler = EpochSampler(1000, True, seed=5, weights=weights)
    keys = drawn(sampler, 1)
    assert len(keys) == 1000
    assert sum(key[1] >= 900 for key in keys) == pytest.approx(500, abs=60)
    assert keys == drawn(EpochSampler(1000, True, seed=5, weights=weights), 1)
    assert keys != drawn(sampler, 2)
    sampler.skip = 400
    assert drawn(sampler, 1) == keys[400:]


def test_a_sample_drawn_again_in_an_epoch_gets_other_draws() -> None:
    keys = drawn(EpochSampler(10, True, seed=0, weights=[100.0] + [1e-3] * 9), 3)
    assert len(set(keys)) == len(keys)
    assert Counter(key[1] for key in keys)[0] > 5


def test_a_loader_takes_the_weights() -> None:
    data = Dataset([{"image": torch.zeros(1), "case": str(i)} for i in range(6)])
    loader = SeededLoader(data, 6, shuffle=True, weights=[1e-6] * 5 + [1.0])
    assert next(iter(loader))["case"] == ["5"] * 6


@pytest.mark.parametrize("weights", [[1.0, 2.0], [1.0, 0.0, 1.0], [1.0, float("nan"), 1.0]])
def test_wrong_weights_are_refused(weights) -> None:
    with pytest.raises(DataError, match="the 3 samples need one finite number > 0 each"):
        EpochSampler(3, True, seed=0, weights=weights)
