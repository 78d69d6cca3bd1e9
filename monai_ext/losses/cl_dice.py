"""Binary cross-entropy, soft Dice and a topology term.

Paper: Shit et al., clDice - A Novel Topology-Preserving Loss Function for Tubular Structure Segmentation,
arXiv:2003.07311. The skeleton of a sheet is its middle surface, so it works for sheets as well.
"""

from __future__ import annotations

import torch
from monai.losses import SoftclDiceLoss

from monai_ext.losses.bce_dice import BCEDiceLoss
from monai_ext.losses.masking import checked_mask, without


class BCEDiceClDiceLoss(BCEDiceLoss):
    """`BCEDiceLoss` plus MONAI's soft clDice, which penalises a hole or a bridge more than a wrong thickness.

    MONAI's `SoftDiceclDiceLoss` has neither cross-entropy nor mask. Voxels outside the mask are background for the
    skeletons of both prediction and target, so that both end there.

    Args:
        label_smoothing: see `BCEDiceLoss`.
        bce_weight: weight of the cross-entropy, ≥ 0.
        dice_weight: weight of 1 − Dice, ≥ 0.
        cl_dice_weight: weight of 1 − clDice, the mean over the samples of a batch, ≥ 0.
        iterations: erosions for a skeleton, ≥ 0; at least half the thickness of the structures in voxels.

    Shapes: logits and target in [0, 1] (B, C, Z, Y, X) or (B, C, Y, X), channels of a sample pooled for clDice;
    mask (B, 1, spatial axes) or None, non-zero where a voxel counts; the loss is a scalar, NaN without any voxel.

    Raises:
        ValueError: for an argument out of range; in the call, see `BCEDiceLoss`.
    """

    def __init__(
        self,
        label_smoothing: float = 0.0,
        bce_weight: float = 0.5,
        dice_weight: float = 0.5,
        cl_dice_weight: float = 0.5,
        iterations: int = 3,
    ) -> None:
        super().__init__(label_smoothing, bce_weight, dice_weight)
        if not cl_dice_weight >= 0:
            raise ValueError(f"BCEDiceClDiceLoss: cl_dice_weight must be at least 0, got {cl_dice_weight!r}")
        if not isinstance(iterations, int) or iterations < 0:
            raise ValueError(f"BCEDiceClDiceLoss: iterations must be an integer of at least 0, got {iterations!r}")
        self.cl_dice_weight = cl_dice_weight
        # MONAI's 1e-4 would be a loss of 5e-5 without any voxel; precision and sensitivity are never 0 anyway.
        self.cl_dice = SoftclDiceLoss(iter_=iterations, smooth=1e-8)

    def forward(self, pred: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        bce_dice = super().forward(pred, target, mask)
        mask = checked_mask(pred, mask, "BCEDiceClDiceLoss")
        probability = without(without(pred, mask).sigmoid(), mask)
        return bce_dice + self.cl_dice_weight * self.cl_dice(probability, without(target, mask).to(probability))
