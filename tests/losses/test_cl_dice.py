"""The part of topology; what it shares with other losses with a mask is in test_masked_losses."""

from __future__ import annotations

import pytest
import torch
from monai.losses import SoftclDiceLoss

from monai_ext.losses import BCEDiceClDiceLoss, BCEDiceLoss, MultiTargetLoss

EDGE = 9
AREA = EDGE**2


def plate(*planes: int) -> torch.Tensor:
    """Planes across z through the whole volume, (1, 1, 9, 9, 9)."""
    volume = torch.zeros((1, 1, EDGE, EDGE, EDGE))
    volume[:, :, planes] = 1
    return volume


def logits(volume: torch.Tensor) -> torch.Tensor:
    """Of probabilities that are 0 and 1 exactly, in float32."""
    return (volume - 0.5) * 400


def topology(**options) -> BCEDiceClDiceLoss:
    """The term of topology alone."""
    return BCEDiceClDiceLoss(bce_weight=0, dice_weight=0, cl_dice_weight=1, **options)


def test_equals_the_losses_it_consists_of() -> None:
    generator = torch.Generator().manual_seed(0)
    pred = torch.randn((2, 1, 6, 7, 8), generator=generator)
    target = (torch.rand(pred.shape, generator=generator) > 0.5).float()
    value = BCEDiceClDiceLoss(0.1, 0.3, 0.6, 0.25, 2)(pred, target)
    parts = BCEDiceLoss(0.1, 0.3, 0.6)(pred, target) + 0.25 * SoftclDiceLoss(iter_=2, sigmoid=True)(pred, target)
    # MONAI adds 1e-4 to the denominator
    assert float(value) == pytest.approx(float(parts), abs=1e-4)


def test_without_its_weight_it_is_bce_and_dice() -> None:
    pred = torch.randn((1, 2, 4, 5, 6), generator=torch.Generator().manual_seed(0))
    target = (pred > 0.3).byte()
    assert torch.equal(BCEDiceClDiceLoss(0.1, cl_dice_weight=0)(pred, target), BCEDiceLoss(0.1)(pred, target))


def test_thickness_costs_nothing_as_long_as_the_middle_planes_lie_within() -> None:
    assert float(topology()(logits(plate(3, 4, 5)), plate(4))) == pytest.approx(0, abs=1e-6)
    assert float(topology()(logits(plate(4)), plate(3, 4, 5))) == pytest.approx(0, abs=1e-6)


def test_too_few_iterations_find_no_skeleton_of_a_thick_sheet() -> None:
    """Without a skeleton only the terms that keep from dividing by 0 are left: both ratios are 1."""
    far = logits(plate(0, 1, 2))
    assert float(topology(iterations=0)(far, plate(6, 7, 8))) == pytest.approx(0, abs=1e-6)
    # middle planes at 0 and 8, as the border of a volume doesn't erode: neither lies in the other
    assert float(topology(iterations=2)(far, plate(6, 7, 8))) == pytest.approx(1 - 1 / (AREA + 1), abs=1e-6)


def test_a_hole_costs_sensitivity() -> None:
    pred = plate(4)
    pred[..., 4, 3:6, 3:6] = 0
    sensitivity = (AREA - 9 + 1) / (AREA + 1)
    assert float(topology()(logits(pred), plate(4))) == pytest.approx(1 - 2 * sensitivity / (1 + sensitivity), abs=1e-6)


def test_a_second_sheet_costs_precision() -> None:
    precision = (AREA + 1) / (2 * AREA + 1)
    value = topology()(logits(plate(2, 6)), plate(2))
    assert float(value) == pytest.approx(1 - 2 * precision / (1 + precision), abs=1e-6)


def test_samples_count_alike_whatever_their_number_of_voxels() -> None:
    """One sample right, one without any overlap."""
    pred, target = torch.cat([plate(4), plate(2)]), torch.cat([plate(4), plate(6)])
    assert float(topology()(logits(pred), target)) == pytest.approx((1 - 1 / (AREA + 1)) / 2, abs=1e-6)


def test_what_is_masked_counts_as_background() -> None:
    """A second sheet, and one that wasn't found, cost nothing where they are left out."""
    mask = torch.ones((1, 1, EDGE, EDGE, EDGE), dtype=torch.bool)
    mask[:, :, 5:] = False
    assert float(topology()(logits(plate(2, 6)), plate(2, 8), mask)) == pytest.approx(0, abs=1e-6)


def test_two_dimensions_are_taken() -> None:
    pred, target = plate(3, 4, 5)[..., 0], plate(4)[..., 0]
    assert float(topology()(logits(pred), target)) == pytest.approx(0, abs=1e-6)


def test_a_step_against_the_gradient_closes_a_hole() -> None:
    pred = plate(4)
    pred[..., 4, 4, 4] = 0
    pred = ((pred - 0.5) * 4).requires_grad_()
    topology()(pred, plate(4)).backward()
    assert pred.grad is not None
    assert pred.grad[0, 0, 4, 4, 4] < 0


def test_it_is_a_label_map_for_several_targets_and_can_be_named() -> None:
    targets = {"sheet": {"channels": 1, "loss": "topology"}}
    loss = MultiTargetLoss(targets, ignore_label=2, losses={"topology": topology()})
    target = plate(4)
    target[:, :, 5:] = 2
    assert float(loss({"sheet": logits(plate(4, 7))}, {"sheet": target})) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cl_dice_weight": -1}, "cl_dice_weight must be at least 0, got -1"),
        ({"iterations": -1}, "iterations must be an integer of at least 0, got -1"),
        ({"iterations": 1.5}, "iterations must be an integer of at least 0, got 1.5"),
        ({"label_smoothing": 0.5}, r"label_smoothing must be in \[0, 0.5\), got 0.5"),
    ],
    ids=["weight", "negative", "fraction", "smoothing"],
)
def test_arguments_out_of_range(options, message) -> None:
    with pytest.raises(ValueError, match=f"BCEDiceClDiceLoss: {message}"):
        BCEDiceClDiceLoss(**options)
