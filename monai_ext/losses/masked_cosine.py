"""Loss of vectors' directions, such as surface normals."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import cosine_similarity

from monai_ext.losses.masking import check_target, checked_mask, masked_mean, without


class MaskedCosineLoss(nn.Module):
    """1 − mean cosine between predicted and true vectors, over the voxels whose true vector isn't zero.

    Predictions needn't have length 1. Difference from the surface project: there background decodes to (−1, −1, −1) and
    counts; here it is the zero vector and doesn't. Without any voxel the loss is NaN, with a gradient of 0.

    Shapes: prediction and target (B, C, spatial axes), components on the channel axis; mask (B, 1, spatial axes) or
    None, non-zero where a voxel counts; the loss is a scalar from 0 to 2.

    Raises:
        ValueError: in the call, for shapes that don't fit.
    """

    def counting(self, target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The voxels of a mask, (B, 1, spatial axes), that have a direction.

        Args:
            target: see the class.
            mask: bool.
        """
        return mask & (target != 0).any(dim=1, keepdim=True)

    def forward(self, pred: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        check_target(pred, target, pred.shape[1], "MaskedCosineLoss")
        mask = self.counting(target, checked_mask(pred, mask, "MaskedCosineLoss"))
        pred = without(pred, mask)
        target = without(target, mask).to(pred)
        return masked_mean(1 - cosine_similarity(pred, target, dim=1).unsqueeze(1), mask)
