import pytest
import torch
from torch import nn

from monai_ext.losses import MultiClassFocalLoss

LOGITS = torch.tensor([[2.0, 0.5, -1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 3.0], [0.3, 0.2, 0.1]])
LABELS = torch.tensor([0, 2, 2, 1])
WEIGHT = torch.tensor([1.0, 2.0, 0.5])


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
def test_is_cross_entropy_at_gamma_zero(weight):
    expected = nn.CrossEntropyLoss(weight=weight)(LOGITS, LABELS)
    assert float(MultiClassFocalLoss(0.0, weight)(LOGITS, LABELS)) == pytest.approx(float(expected), rel=1e-6)


def test_equals_the_paper_s_formula():
    p = LOGITS.softmax(1)[range(4), LABELS]
    expected = (-((1 - p) ** 2) * p.log()).mean()
    assert float(MultiClassFocalLoss(2.0)(LOGITS, LABELS)) == pytest.approx(float(expected), rel=1e-6)


def test_weights_can_be_set_and_taken_away_later():
    loss = MultiClassFocalLoss(2.0)
    plain = loss(LOGITS, LABELS)
    loss.weight = WEIGHT
    p = LOGITS.softmax(1)[range(4), LABELS]
    w = WEIGHT[LABELS]
    assert float(loss(LOGITS, LABELS)) == pytest.approx(float((w * -((1 - p) ** 2) * p.log()).sum() / w.sum()))
    loss.weight = None
    assert torch.equal(loss(LOGITS, LABELS), plain)


def test_a_negative_gamma_is_refused():
    with pytest.raises(ValueError, match="gamma must be at least 0, got -1"):
        MultiClassFocalLoss(-1)


def test_weights_that_are_all_zero_are_refused():
    with pytest.raises(ValueError, match="weight must not be all 0"):
        MultiClassFocalLoss(weight=[0.0, 0.0, 0.0])


def test_a_batch_without_any_weight_counts_nothing():
    logits = LOGITS.clone().requires_grad_()
    value = MultiClassFocalLoss(weight=[1.0, 1.0, 0.0])(logits, torch.full((4,), 2))
    value.backward()
    assert torch.isnan(value)
    assert (logits.grad == 0).all()
