"""Losses that MONAI lacks."""

from monai_ext.losses.asymmetric import AsymmetricLoss
from monai_ext.losses.bce_dice import BCEDiceLoss
from monai_ext.losses.cl_dice import BCEDiceClDiceLoss
from monai_ext.losses.cord import CordLoss
from monai_ext.losses.cross_entropy_dice import CrossEntropyDiceLoss
from monai_ext.losses.focal import MultiClassFocalLoss
from monai_ext.losses.head_cross_entropy import HeadCrossEntropy
from monai_ext.losses.ldam import LDAMLoss
from monai_ext.losses.masked_cosine import MaskedCosineLoss
from monai_ext.losses.masked_smooth_l1 import MaskedSmoothL1Loss
from monai_ext.losses.multi_label_focal import MultiLabelFocalLoss
from monai_ext.losses.multi_target import MultiTargetLoss
from monai_ext.losses.reweighting import drw_weights

__all__ = [
    "AsymmetricLoss",
    "BCEDiceClDiceLoss",
    "BCEDiceLoss",
    "CordLoss",
    "CrossEntropyDiceLoss",
    "HeadCrossEntropy",
    "LDAMLoss",
    "MaskedCosineLoss",
    "MaskedSmoothL1Loss",
    "MultiClassFocalLoss",
    "MultiLabelFocalLoss",
    "MultiTargetLoss",
    "drw_weights",
]
