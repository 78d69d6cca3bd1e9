"""What the losses with a mask have in common, and their values."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, smooth_l1_loss

from monai_ext.losses import (
    BCEDiceClDiceLoss,
    BCEDiceLoss,
    CrossEntropyDiceLoss,
    MaskedCosineLoss,
    MaskedSmoothL1Loss,
)

GOLDEN = Path(__file__).parents[1] / "golden"
LOSSES = [BCEDiceLoss(0.1), BCEDiceClDiceLoss(0.1), CrossEntropyDiceLoss(0.1), MaskedCosineLoss(), MaskedSmoothL1Loss()]


@pytest.fixture(scope="module")
def golden() -> dict:
    return json.loads((GOLDEN / "surface_losses.json").read_text())


@pytest.fixture(scope="module")
def arrays() -> dict[str, torch.Tensor]:
    with np.load(GOLDEN / "surface_losses.npz") as stored:
        return {name: torch.from_numpy(stored[name]) for name in stored}


@pytest.fixture(params=LOSSES, ids=lambda loss: type(loss).__name__)
def loss(request):
    return request.param


@pytest.fixture
def batch(loss) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Prediction, target and a mask that keeps about half of the voxels."""
    generator = torch.Generator().manual_seed(0)
    pred = torch.randn((2, 3, 4, 5, 6), generator=generator)
    if isinstance(loss, BCEDiceLoss):
        target = (torch.rand(pred.shape, generator=generator) > 0.6).float()
    elif isinstance(loss, CrossEntropyDiceLoss):
        target = torch.randint(0, 3, (2, 1, 4, 5, 6), generator=generator)
    else:
        target = torch.randn(pred.shape, generator=generator)
    return pred, target, torch.rand((2, 1, 4, 5, 6), generator=generator) > 0.5


def value_and_gradient(loss, pred, target, mask):
    pred = pred.clone().requires_grad_()
    value = loss(pred, target, mask)
    value.backward()
    return value.detach(), pred.grad


def test_no_mask_is_a_full_mask(loss, batch) -> None:
    pred, target, mask = batch
    assert torch.equal(loss(pred, target), loss(pred, target, torch.ones_like(mask)))


def test_what_is_masked_out_has_neither_influence_nor_gradient(loss, batch) -> None:
    pred, target, mask = batch
    value, gradient = value_and_gradient(loss, pred, target, mask)
    out = ~mask.expand_as(pred)
    assert (gradient[out] == 0).all()
    assert (gradient[~out] != 0).any()

    nonsense = pred.masked_fill(~mask, float("nan"))
    other_target = target.masked_fill(~mask, 9)
    other, other_gradient = value_and_gradient(loss, nonsense, other_target, mask)
    assert torch.equal(other, value)
    assert torch.equal(other_gradient, gradient)


def test_without_any_voxel_the_loss_is_nan_and_its_gradient_zero(loss, batch) -> None:
    pred, target, mask = batch
    value, gradient = value_and_gradient(loss, pred, target, torch.zeros_like(mask))
    assert math.isnan(value)
    assert (gradient == 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_computed_in_at_least_float32(loss, batch, dtype) -> None:
    pred, target, mask = batch
    value = loss(pred.to(dtype), target, mask)
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert float(value) == pytest.approx(float(loss(pred, target, mask)), rel=2e-2)


def test_shapes_that_do_not_fit_are_told(loss, batch) -> None:
    pred, target, mask = batch
    name = type(loss).__name__
    with pytest.raises(ValueError, match=rf"{name}: target must have shape \(2, [13], 4, 5, 6\).*got .*, 5\)"):
        loss(pred, target[..., :5])
    with pytest.raises(ValueError, match=rf"{name}: mask must have shape \(2, 1, 4, 5, 6\).*got \(2, 4, 5, 6\)"):
        loss(pred, target, mask[:, 0])


def test_masked_cosine_equals_the_reference(golden, arrays) -> None:
    value = MaskedCosineLoss()(arrays["normals_pred"], arrays["normals_target"])
    assert float(value) == pytest.approx(golden["masked_cosine_bg0"], rel=1e-9)


def test_cosine_gives_the_background_no_gradient(arrays) -> None:
    pred, target = arrays["normals_pred"], arrays["normals_target"]
    _, gradient = value_and_gradient(MaskedCosineLoss(), pred, target, None)
    background = (target == 0).all(dim=1, keepdim=True).expand_as(pred)
    assert background.any()
    assert (gradient[background] == 0).all()


def test_cosine_without_any_direction_is_nan(arrays) -> None:
    pred, target = arrays["normals_pred"], torch.zeros_like(arrays["normals_target"])
    value, gradient = value_and_gradient(MaskedCosineLoss(), pred, target, None)
    assert math.isnan(value)
    assert (gradient == 0).all()


def test_cosine_by_hand() -> None:
    target = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]).T.reshape(1, 3, 1, 1, 4)
    pred = torch.tensor([[5.0, 0, 0], [0, -1, 0], [1, 0, 1], [7, 7, 7]]).T.reshape(1, 3, 1, 1, 4)
    assert float(MaskedCosineLoss()(pred, target)) == pytest.approx(1 - (1 - 1 + math.sqrt(0.5)) / 3)
    mask = torch.tensor([1, 0, 0, 1]).reshape(1, 1, 1, 1, 4)
    assert float(MaskedCosineLoss()(pred, target, mask)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("key", "loss"),
    [
        ("bce_label_smooth0", BCEDiceLoss(0, 1, 0)),
        ("bce_label_smooth0.1", BCEDiceLoss(0.1, 1, 0)),
        ("dice_sq_denominator", BCEDiceLoss(0.1, 0, 1)),
        ("bcedice_0.5_0.5", BCEDiceLoss(0.1)),
    ],
)
def test_bce_dice_equals_the_reference(golden, arrays, key, loss) -> None:
    value = loss(arrays["sheet_logits"], arrays["sheet_target"])
    assert float(value) == pytest.approx(golden[key], rel=1e-6)


def test_cross_entropy_dice_is_half_of_both() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((2, 4, 3, 3, 3), generator=generator).double()
    labels = torch.randint(0, 4, (2, 1, 3, 3, 3), generator=generator)
    p, y = logits.softmax(1), torch.nn.functional.one_hot(labels[:, 0], 4).movedim(-1, 1)
    axes = (0, 2, 3, 4)
    dice = 1 - (2 * (p * y).sum(axes) / (p.square().sum(axes) + y.sum(axes))).mean()
    expected = 0.5 * cross_entropy(logits, labels[:, 0]) + 0.5 * dice
    assert float(CrossEntropyDiceLoss()(logits, labels)) == pytest.approx(float(expected), rel=1e-6)


def test_smooth_l1_is_torch_s_over_the_voxels_that_count() -> None:
    generator = torch.Generator().manual_seed(0)
    pred, target = torch.randn((2, 1, 2, 4, 4, 4), generator=generator)
    mask = torch.zeros((1, 1, 4, 4, 4))
    mask[:, :, :2] = 1
    expected = smooth_l1_loss(pred[:, :, :2], target[:, :, :2], beta=0.5)
    value = MaskedSmoothL1Loss(0.5)(pred, target, mask)
    assert float(value) == pytest.approx(float(expected))


@pytest.mark.parametrize(
    ("loss", "target", "message"),
    [
        (BCEDiceLoss(), torch.full((1, 2, 2, 2, 2), 255.0), "must be from 0 to 1 .* got values from 255 to 255"),
        (CrossEntropyDiceLoss(), torch.full((1, 1, 2, 2, 2), 2), "must be from 0 to 1 .* got values from 2 to 2"),
    ],
    ids=["binary", "classes"],
)
def test_labels_out_of_range_are_told(loss, target, message) -> None:
    with pytest.raises(ValueError, match=f"{type(loss).__name__}: target {message}"):
        loss(torch.zeros(1, 2, 2, 2, 2), target)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: BCEDiceLoss(0.5), r"label_smoothing must be in \[0, 0.5\), got 0.5"),
        (lambda: BCEDiceLoss(dice_weight=-1), "dice_weight must be at least 0, got -1"),
        (lambda: CrossEntropyDiceLoss(1), r"label_smoothing must be in \[0, 1\), got 1"),
        (lambda: MaskedSmoothL1Loss(0), "beta must be > 0, got 0"),
    ],
    ids=["smoothing", "weight", "smoothing-classes", "beta"],
)
def test_bad_arguments(build, message) -> None:
    with pytest.raises(ValueError, match=message):
        build()
