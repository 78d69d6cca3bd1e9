"""Transforms that MONAI lacks."""

from monai_ext.transforms.bias_field import CorrectBiasField, CorrectBiasFieldd
from monai_ext.transforms.crops import ClearBackgroundd, LoadCropd, ScaleUnitd
from monai_ext.transforms.cube import CubePad, CubePadd, is_nonzero
from monai_ext.transforms.finite import CheckFinited
from monai_ext.transforms.load import LoadVolumed

__all__ = [
    "CheckFinited",
    "ClearBackgroundd",
    "CorrectBiasField",
    "CorrectBiasFieldd",
    "CubePad",
    "CubePadd",
    "LoadCropd",
    "LoadVolumed",
    "ScaleUnitd",
    "is_nonzero",
]
