"""Losses that MONAI lacks."""

from monai_ext.losses.focal import MultiClassFocalLoss
from monai_ext.losses.ldam import LDAMLoss
from monai_ext.losses.reweighting import drw_weights

__all__ = ["LDAMLoss", "MultiClassFocalLoss", "drw_weights"]
