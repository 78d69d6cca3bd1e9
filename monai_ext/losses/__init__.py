"""Losses that MONAI lacks."""

from monai_ext.losses.ldam import LDAMLoss
from monai_ext.losses.reweighting import drw_weights

__all__ = ["LDAMLoss", "drw_weights"]
