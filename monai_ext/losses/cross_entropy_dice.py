"""Cross-entropy and soft Dice for one class out of several."""

from __future__ import annotations

import torch
from monai.losses import DiceLoss
from monai.networks import one_hot
from torch import nn
from torch.nn.functional import cross_entropy

from monai_ext.losses.masking import check_target, check_values, checked_mask, masked_mean, without

_SMOOTH = 1e-6


class CrossEntropyDiceLoss(nn.Module):
    """Half cross-entropy, half MONAI's soft Dice of all classes over the batch, with squares in its denominator.

    MONAI's `DiceCELoss` has no mask. Soft Dice: Milletari et al., V-Net, arXiv:1606.04797.

    Args:
        label_smoothing: label smoothing of the cross-entropy, in [0, 1); see `torch.nn.CrossEntropyLoss`.

    Shapes: logits (B, C, spatial axes), target (B, 1, spatial axes) of classes from 0; mask (B, 1, spatial axes) or
    None, non-zero where a voxel counts; the loss is a scalar, NaN without any voxel.

    Raises:
        ValueError: for an argument out of range; in the call, for shapes that don't fit and, on the CPU, classes out
            of range.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"CrossEntropyDiceLoss: label_smoothing must be in [0, 1), got {label_smoothing!r}")
        self.label_smoothing = label_smoothing
        self.dice = DiceLoss(squared_pred=True, batch=True, smooth_nr=_SMOOTH, smooth_dr=_SMOOTH)

    def forward(self, pred: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        check_target(pred, target, 1, "CrossEntropyDiceLoss")
        mask = checked_mask(pred, mask, "CrossEntropyDiceLoss")
        pred = without(pred, mask)
        labels = target.masked_fill(~mask, 0).long()
        check_values(labels, 0, pred.shape[1] - 1, "CrossEntropyDiceLoss")
        losses = cross_entropy(pred, labels[:, 0], reduction="none", label_smoothing=self.label_smoothing)
        classes = one_hot(labels, pred.shape[1], dtype=pred.dtype)
        dice = self.dice(without(pred.softmax(dim=1), mask), without(classes, mask))
        return 0.5 * masked_mean(losses.unsqueeze(1), mask) + 0.5 * dice
