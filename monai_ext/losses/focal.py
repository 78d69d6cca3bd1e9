"""Focal loss for one class out of several.

Paper: Lin et al., Focal Loss for Dense Object Detection, arXiv:1708.02002.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.losses import FocalLoss
from torch import nn


class MultiClassFocalLoss(nn.Module):
    """MONAI's `FocalLoss` over a softmax, called and averaged as `torch.nn.CrossEntropyLoss`, equal to it at gamma 0.

    Differences from MONAI's: that averages over classes too, which makes it C times smaller, and needs (B, 1) labels;
    its class weights can't be set later, as deferred re-weighting does.

    Args:
        gamma: focusing parameter, ≥ 0; larger values give easy samples less weight.
        weight: C class weights, or None for equal ones; can be set at any time.

    Shapes: logits (B, C), target (B,) of classes from 0; the loss is a scalar, NaN with a gradient of 0 where the
    weights of all samples are 0.

    Raises:
        ValueError: for a negative gamma, or weights that are all 0.
    """

    weight: torch.Tensor | None

    def __init__(self, gamma: float = 2.0, weight: Sequence[float] | torch.Tensor | None = None) -> None:
        super().__init__()
        if gamma < 0:
            raise ValueError(f"MultiClassFocalLoss: gamma must be at least 0, got {gamma!r}")
        self.focal = FocalLoss(to_onehot_y=True, use_softmax=True, gamma=gamma, reduction="none")
        if weight is not None and not torch.as_tensor(weight).any():
            raise ValueError(f"MultiClassFocalLoss: weight must not be all 0, got {weight!r}")
        self.register_buffer("weight", None if weight is None else torch.as_tensor(weight, dtype=torch.float32))

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        losses = self.focal(input, target.reshape(-1, 1)).sum(dim=1)
        if self.weight is None:
            return losses.mean()
        weights = self.weight.to(losses)[target.reshape(-1)]
        total = weights.sum()
        return ((weights * losses).sum() / total.masked_fill(total == 0, 1.0)).masked_fill(total == 0, float("nan"))
