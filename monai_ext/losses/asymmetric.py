"""Asymmetric loss for multi-label classification.

Paper: Ridnik et al., Asymmetric Loss For Multi-Label Classification, arXiv:2009.14119.
Reference: https://github.com/Alibaba-MIIL/ASL (``src/loss_functions/losses.py``).
"""

from __future__ import annotations

import torch
from torch import nn

from monai_ext.losses.soft_labels import logits_and_labels

_REDUCTIONS = ("mean", "sum")


class AsymmetricLoss(nn.Module):
    """Binary cross-entropy with asymmetric focusing, stronger for negatives, and probability shifting.

    With p = sigmoid(logit) and p₋ = min(1 − p + clip, 1) it is −y (1 − p)^γ₊ log p − (1 − y) (1 − p₋)^γ₋ log p₋,
    which equals the reference for labels 0 and 1. Differences from it: mixed labels weight the two terms, so that the
    loss of a mixture is the mixture of the losses (the reference mixes the exponents, too); the mean is available
    besides the sum; sums are computed in at least float32.

    Args:
        gamma_neg: focusing parameter γ₋ of the negatives, ≥ 0.
        gamma_pos: focusing parameter γ₊ of the positives, ≥ 0.
        clip: probability shift, in [0, 1): negatives with a smaller probability have no loss.
        eps: lower bound of the arguments of logarithms, > 0.
        reduction: ``"mean"`` over samples and classes, or ``"sum"``.
        focus_gradient: whether the focusing weights get a gradient; the reference trains without.

    Shapes: logits and labels (B, C), labels from 0 to 1; the loss is a scalar.

    Raises:
        ValueError: when an argument is out of range; in the call for other shapes, and on the CPU for labels outside
            [0, 1].
    """

    def __init__(
        self,
        gamma_neg: float = 6.0,
        gamma_pos: float = 1.0,
        clip: float = 0.05,
        eps: float = 1e-8,
        reduction: str = "mean",
        focus_gradient: bool = False,
    ) -> None:
        super().__init__()
        for name, value in (("gamma_neg", gamma_neg), ("gamma_pos", gamma_pos)):
            if not value >= 0:
                raise ValueError(f"AsymmetricLoss: {name} must be at least 0, got {value!r}")
        if not 0 <= clip < 1:
            raise ValueError(f"AsymmetricLoss: clip must be in [0, 1), got {clip!r}")
        if not eps > 0:
            raise ValueError(f"AsymmetricLoss: eps must be > 0, got {eps!r}")
        if reduction not in _REDUCTIONS:
            raise ValueError(f"AsymmetricLoss: reduction must be one of {', '.join(_REDUCTIONS)}, got {reduction!r}")
        self.gamma_neg = gamma_neg
        self.gamma_pos = gamma_pos
        self.clip = clip
        self.eps = eps
        self.reduction = reduction
        self.focus_gradient = focus_gradient

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        logits, labels = logits_and_labels(input, target, "AsymmetricLoss")
        positive = torch.sigmoid(logits)
        negative = (1 - positive + self.clip).clamp(max=1)
        losses = labels * self._focused(positive, self.gamma_pos)
        losses = losses + (1 - labels) * self._focused(negative, self.gamma_neg)
        return losses.sum() if self.reduction == "sum" else losses.mean()

    def _focused(self, probability: torch.Tensor, gamma: float) -> torch.Tensor:
        # Not quite 0, where a power below 1 has no finite slope; log p is 0 there in any case.
        distance = (1 - probability if self.focus_gradient else 1 - probability.detach()).clamp(min=self.eps)
        return -(distance**gamma) * torch.log(probability.clamp(min=self.eps))
