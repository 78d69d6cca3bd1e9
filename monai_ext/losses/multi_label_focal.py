"""Focal loss for multi-label classification.

Paper: Lin et al., Focal Loss for Dense Object Detection, arXiv:1708.02002.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.losses.focal_loss import sigmoid_focal_loss
from torch import nn

from monai_ext.losses.soft_labels import logits_and_labels


class MultiLabelFocalLoss(nn.Module):
    """MONAI's sigmoid focal loss, averaged over samples and classes.

    Differences from MONAI's `FocalLoss`: alpha can be a constant factor; float64 stays float64; mixed labels weight the
    losses of a positive and of a negative, so that the loss of a mixture is the mixture of the losses.

    Args:
        gamma: focusing parameter, ≥ 0; larger values give easy labels less weight.
        alpha: factor in [0, 1], see ``balanced``.
        balanced: True for the paper's α_t, alpha for positives and 1 − alpha for negatives; False multiplies both
            by alpha.
        class_weight: C factors ≥ 0, not all 0, or None for equal ones.

    Shapes: logits and labels (B, C), labels from 0 to 1; the loss is a scalar.

    Raises:
        ValueError: when an argument is out of range; in the call for other shapes, and on the CPU for labels outside
            [0, 1].
    """

    class_weight: torch.Tensor | None

    def __init__(
        self,
        gamma: float = 4.0,
        alpha: float = 0.85,
        balanced: bool = False,
        class_weight: Sequence[float] | torch.Tensor | None = None,
    ) -> None:
        super().__init__()
        if not gamma >= 0:
            raise ValueError(f"MultiLabelFocalLoss: gamma must be at least 0, got {gamma!r}")
        if not 0 <= alpha <= 1:
            raise ValueError(f"MultiLabelFocalLoss: alpha must be in [0, 1], got {alpha!r}")
        weight = None if class_weight is None else torch.as_tensor(class_weight, dtype=torch.float64)
        if weight is not None and not (
            weight.ndim == 1 and (weight >= 0).all() and torch.isfinite(weight).all() and weight.any()
        ):
            raise ValueError(
                "MultiLabelFocalLoss: class_weight must be one number ≥ 0 for each class, not all 0, "
                f"got {class_weight!r}"
            )
        self.gamma = gamma
        self.alpha = alpha
        self.balanced = balanced
        # Not persistent: it follows from the training data, not from training.
        self.register_buffer("class_weight", weight, persistent=False)

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        logits, labels = logits_and_labels(input, target, "MultiLabelFocalLoss")
        positive = sigmoid_focal_loss(logits, torch.ones_like(logits), self.gamma)
        negative = sigmoid_focal_loss(logits, torch.zeros_like(logits), self.gamma)
        of_negatives = 1 - self.alpha if self.balanced else self.alpha
        losses = self.alpha * labels * positive + of_negatives * (1 - labels) * negative
        if self.class_weight is not None:
            if len(self.class_weight) != losses.shape[1]:
                raise ValueError(
                    f"MultiLabelFocalLoss: class_weight has {len(self.class_weight)} values for "
                    f"{losses.shape[1]} classes"
                )
            losses = losses * self.class_weight.to(losses)
        return losses.mean()
