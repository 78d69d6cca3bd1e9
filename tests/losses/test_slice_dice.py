"""MONAI's Dice loss with the settings that make it the reference's for masks of slices."""

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.losses import DiceLoss

GOLDEN = Path(__file__).parents[1] / "golden"
# of the spinal project's loss, sigmoid and smooth 1, on the first slice of sheet_logits and sheet_target
REFERENCE = 0.5556713011251081


def test_monai_s_dice_of_single_slices_with_smooth_1_equals_the_reference():
    arrays = np.load(GOLDEN / "surface_losses.npz")
    logits, target = (torch.from_numpy(arrays[name][:, :, 0]).double() for name in ("sheet_logits", "sheet_target"))
    loss = DiceLoss(sigmoid=True, smooth_nr=1, smooth_dr=1, batch=False)
    assert float(loss(logits, target)) == pytest.approx(REFERENCE, rel=1e-12)
    # the mean over the slices, each by itself, which is what validation tells
    alone = [float(loss(*pair)) for pair in zip(logits.split(1), target.split(1), strict=True)]
    assert sum(alone) / len(alone) == pytest.approx(REFERENCE, rel=1e-12)
