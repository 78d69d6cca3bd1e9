from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from monai_ext.losses import AsymmetricLoss, MultiLabelFocalLoss

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "multi_label_losses.json").read_text())
LOGITS = torch.tensor(GOLDEN["logits"], dtype=torch.float64)
TARGETS = torch.tensor(GOLDEN["targets"], dtype=torch.float64)
CLASS_WEIGHT = torch.tensor(GOLDEN["class_weight"], dtype=torch.float64)
LOSSES = {
    "asymmetric": AsymmetricLoss(),
    "focal": MultiLabelFocalLoss(),
    "focal-balanced": MultiLabelFocalLoss(2.0, 0.25, balanced=True, class_weight=CLASS_WEIGHT),
}


@pytest.fixture(params=LOSSES.values(), ids=LOSSES.keys())
def loss(request) -> torch.nn.Module:
    return request.param


@pytest.mark.parametrize("case", GOLDEN["asymmetric"].values(), ids=GOLDEN["asymmetric"].keys())
def test_asymmetric_loss_and_gradient_equal_the_reference(case) -> None:
    arguments = {name: case[name] for name in ("gamma_neg", "gamma_pos", "clip", "focus_gradient")}
    logits = LOGITS.clone().requires_grad_()
    total = AsymmetricLoss(**arguments, reduction="sum")(logits, TARGETS)
    total.backward()
    assert total.dtype == torch.float64
    assert total.item() == pytest.approx(case["sum"], rel=1e-9)
    torch.testing.assert_close(logits.grad, torch.tensor(case["gradient"], dtype=torch.float64), rtol=1e-6, atol=1e-12)
    assert float(AsymmetricLoss(**arguments)(LOGITS, TARGETS)) == pytest.approx(case["mean"], rel=1e-9)


def test_asymmetric_loss_counted_by_hand() -> None:
    # p = 1/2: the positive costs (1/2)·log 2, the negative (1/2 − clip)²·−log(1/2 + clip).
    loss = AsymmetricLoss(gamma_neg=2, gamma_pos=1, clip=0.1, reduction="sum")
    expected = 0.5 * math.log(2) + 0.4**2 * -math.log(0.6)
    assert float(loss(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))) == pytest.approx(expected)


def test_asymmetric_loss_without_focus_and_clip_is_cross_entropy() -> None:
    logits = LOGITS / 10  # some are so large that eps limits their loss
    expected = binary_cross_entropy_with_logits(logits, TARGETS)
    assert float(AsymmetricLoss(0, 0, 0)(logits, TARGETS)) == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize("focus_gradient", [True, False])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 6.0])
def test_asymmetric_loss_stays_finite_at_saturated_logits(focus_gradient, gamma) -> None:
    logits = torch.tensor([[200.0, -200.0, 200.0, -200.0]], requires_grad=True)
    value = AsymmetricLoss(gamma, gamma, focus_gradient=focus_gradient)(logits, torch.tensor([[1.0, 1.0, 0.0, 0.0]]))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, "constant_alpha_0.85_gamma_4"),
        ({"class_weight": CLASS_WEIGHT}, "constant_alpha_0.85_gamma_4_weighted"),
        ({"balanced": True}, "alpha_t_0.85_gamma_4"),
        ({"gamma": 2.0, "alpha": 0.25, "balanced": True}, "alpha_t_0.25_gamma_2"),
    ],
    ids=["constant", "class-weights", "balanced", "balanced-defaults-of-the-paper"],
)
def test_focal_loss_equals_the_reference(arguments, expected) -> None:
    value = MultiLabelFocalLoss(**arguments)(LOGITS, TARGETS)
    assert float(value) == pytest.approx(GOLDEN["focal"][expected], rel=1e-9)


def test_focal_loss_without_focus_is_weighted_cross_entropy() -> None:
    expected = 0.5 * binary_cross_entropy_with_logits(LOGITS, TARGETS)
    assert float(MultiLabelFocalLoss(0.0, 0.5, balanced=True)(LOGITS, TARGETS)) == pytest.approx(float(expected))


def test_the_loss_of_mixed_labels_is_the_mixture_of_the_losses(loss) -> None:
    others = TARGETS.roll(1, dims=0)
    mixed = loss(LOGITS, 0.3 * TARGETS + 0.7 * others)
    assert float(mixed) == pytest.approx(0.3 * float(loss(LOGITS, TARGETS)) + 0.7 * float(loss(LOGITS, others)))


def test_gradient_by_differences() -> None:
    focused = AsymmetricLoss(gamma_neg=3, focus_gradient=True)
    for loss in (focused, LOSSES["focal"], LOSSES["focal-balanced"]):
        logits = LOGITS.clone().requires_grad_()
        assert torch.autograd.gradcheck(lambda x, loss=loss: loss(x, TARGETS), logits)


def test_low_precision_and_integer_labels_are_summed_in_float32(loss) -> None:
    exact = loss(LOGITS, TARGETS)
    for logits in (LOGITS.float(), LOGITS.to(torch.bfloat16)):
        value = loss(logits, TARGETS.long())
        assert value.dtype == torch.float32
        assert float(value) == pytest.approx(float(exact), rel=1e-4 if logits.dtype == torch.float32 else 0.02)


@pytest.mark.parametrize("label", [-1.0, 1.5, float("nan")])
def test_labels_out_of_range_are_refused(loss, label) -> None:
    with pytest.raises(ValueError, match=rf"{type(loss).__name__}: labels must be from 0 to 1"):
        loss(torch.zeros(1, 18), torch.full((1, 18), label))


def test_another_shape_is_refused(loss) -> None:
    with pytest.raises(ValueError, match=r"both have shape \(B, C\), got \(2, 18\) and \(2,\)"):
        loss(torch.zeros(2, 18), torch.zeros(2))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: AsymmetricLoss(gamma_neg=-1), "AsymmetricLoss: gamma_neg must be at least 0, got -1"),
        (lambda: AsymmetricLoss(clip=1.0), r"AsymmetricLoss: clip must be in \[0, 1\), got 1.0"),
        (lambda: AsymmetricLoss(eps=0), "AsymmetricLoss: eps must be > 0, got 0"),
        (lambda: AsymmetricLoss(reduction="none"), "reduction must be one of mean, sum, got 'none'"),
        (lambda: MultiLabelFocalLoss(gamma=-2), "MultiLabelFocalLoss: gamma must be at least 0, got -2"),
        (lambda: MultiLabelFocalLoss(alpha=2), r"MultiLabelFocalLoss: alpha must be in \[0, 1\], got 2"),
        (lambda: MultiLabelFocalLoss(class_weight=[1, -1]), "class_weight must be one number ≥ 0"),
        (lambda: MultiLabelFocalLoss(class_weight=[0, 0]), "not all 0, got"),
        (
            lambda: MultiLabelFocalLoss(class_weight=[1, 1])(torch.zeros(1, 3), torch.zeros(1, 3)),
            "class_weight has 2 values for 3 classes",
        ),
    ],
    ids=[
        "gamma",
        "clip",
        "eps",
        "reduction",
        "focal-gamma",
        "alpha",
        "negative-weight",
        "zero-weights",
        "number-of-weights",
    ],
)
def test_bad_arguments(build, message) -> None:
    with pytest.raises(ValueError, match=message):
        build()
