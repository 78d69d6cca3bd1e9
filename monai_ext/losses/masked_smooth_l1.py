"""Smooth L1 loss with a mask."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import smooth_l1_loss

from monai_ext.losses.masking import check_target, checked_mask, masked_mean, without


class MaskedSmoothL1Loss(nn.Module):
    """Mean of torch's smooth L1 loss over the voxels that count.

    Args:
        beta: difference at which the quadratic part becomes linear, > 0; see `torch.nn.SmoothL1Loss`.

    Shapes: prediction and target (B, C, spatial axes); mask (B, 1, spatial axes) or None, non-zero where a voxel
    counts; the loss is a scalar, NaN without any voxel.

    Raises:
        ValueError: for an argument out of range; in the call, for shapes that don't fit.
    """

    def __init__(self, beta: float = 1.0) -> None:
        super().__init__()
        if not beta > 0:
            raise ValueError(f"MaskedSmoothL1Loss: beta must be > 0, got {beta!r}")
        self.beta = beta

    def forward(self, pred: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        check_target(pred, target, pred.shape[1], "MaskedSmoothL1Loss")
        mask = checked_mask(pred, mask, "MaskedSmoothL1Loss")
        pred = without(pred, mask)
        target = without(target, mask).to(pred)
        return masked_mean(smooth_l1_loss(pred, target, reduction="none", beta=self.beta), mask)
