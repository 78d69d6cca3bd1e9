"""Loss of a mask, and of its visibility in the slice."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from monai_ext.errors import ConfigError


class CordLoss(nn.Module):
    """Loss of the mask; for a network with a visibility output, plus the binary cross-entropy of that.

    Args:
        mask_loss: called as ``mask_loss(logits, mask)``.
        visible_area: least fraction of a slice's pixels, padding included, with which the cord counts as visible; above
            0 and below 1.

    Shapes: logits (B, 1, Y, X), or the output of `monai_ext.networks.CordUNet` with ``visible_head``; mask
    (B, 1, Y, X) of 0 and 1; the loss is a scalar.

    Raises:
        ConfigError: for an area out of range.
    """

    def __init__(self, mask_loss: nn.Module, visible_area: float = 0.001) -> None:
        super().__init__()
        if not 0 < visible_area < 1:
            raise ConfigError(f"--visible_area {visible_area}: must be a fraction of a slice, above 0 and below 1")
        self.mask_loss = mask_loss
        self.visible_area = visible_area

    def forward(self, pred: torch.Tensor | Mapping[str, torch.Tensor], mask: torch.Tensor) -> torch.Tensor:
        if torch.is_tensor(pred):
            loss: torch.Tensor = self.mask_loss(pred, mask)
            return loss
        visible = mask.float().flatten(1).mean(dim=1, keepdim=True) >= self.visible_area
        logits = pred["visible"].float()
        found: torch.Tensor = self.mask_loss(pred["cord"], mask)
        return found + binary_cross_entropy_with_logits(logits, visible.to(logits))
