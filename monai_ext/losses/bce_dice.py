"""Binary cross-entropy and soft Dice, for one channel or several independent ones."""

from __future__ import annotations

import torch
from monai.losses import DiceLoss
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from monai_ext.losses.masking import check_target, check_values, checked_mask, masked_mean, without

_SMOOTH = 1e-6


class BCEDiceLoss(nn.Module):
    """Weighted sum of binary cross-entropy and MONAI's soft Dice over the batch, with squares in its denominator.

    MONAI's own sum has no label smoothing and no mask. As in the surface project, smoothing clamps the labels to
    [s, 1 − s], and only those of the cross-entropy. Soft Dice: Milletari et al., V-Net, arXiv:1606.04797.

    Args:
        label_smoothing: s, in [0, 0.5).
        bce_weight: weight of the cross-entropy, ≥ 0.
        dice_weight: weight of 1 − Dice, ≥ 0.

    Shapes: logits and target in [0, 1] (B, C, spatial axes); mask (B, 1, spatial axes) or None, non-zero where a voxel
    counts; the loss is a scalar, NaN without any voxel.

    Raises:
        ValueError: for an argument out of range; in the call, for shapes that don't fit and, on the CPU, labels outside
            [0, 1].
    """

    def __init__(self, label_smoothing: float = 0.0, bce_weight: float = 0.5, dice_weight: float = 0.5) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 0.5:
            raise ValueError(f"{type(self).__name__}: label_smoothing must be in [0, 0.5), got {label_smoothing!r}")
        for name, weight in (("bce_weight", bce_weight), ("dice_weight", dice_weight)):
            if not weight >= 0:
                raise ValueError(f"{type(self).__name__}: {name} must be at least 0, got {weight!r}")
        self.label_smoothing = label_smoothing
        self.bce_weight = bce_weight
        self.dice_weight = dice_weight
        self.dice = DiceLoss(squared_pred=True, batch=True, smooth_nr=_SMOOTH, smooth_dr=_SMOOTH)

    def forward(self, pred: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        check_target(pred, target, pred.shape[1], type(self).__name__)
        mask = checked_mask(pred, mask, type(self).__name__)
        pred = without(pred, mask)
        target = without(target, mask).to(pred)
        check_values(target, 0, 1, type(self).__name__)
        smoothed = target.clamp(self.label_smoothing, 1 - self.label_smoothing)
        bce = masked_mean(binary_cross_entropy_with_logits(pred, smoothed, reduction="none"), mask)
        dice = self.dice(without(pred.sigmoid(), mask), target)
        return self.bce_weight * bce + self.dice_weight * dice
