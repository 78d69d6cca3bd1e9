"""Transforms that MONAI lacks."""

from typing import Any

from monai_ext.moved import moved_name
from monai_ext.transforms.bias_field import CorrectBiasField, CorrectBiasFieldd
from monai_ext.transforms.crops import ClearBackgroundd, LoadCropd, ScaleUnitd
from monai_ext.transforms.cube import CubePad, CubePadd, is_nonzero
from monai_ext.transforms.finite import CheckFinited
from monai_ext.transforms.gamma import RandGammad
from monai_ext.transforms.load import LoadVolumed
from monai_ext.transforms.mixing import MixedBatches
from monai_ext.transforms.multiplicative_noise import RandMultiplicativeNoised
from monai_ext.transforms.normalize import NormalizeVolume
from monai_ext.transforms.slice_augmentation import RandAugmentSlicesd
from monai_ext.transforms.synthetic_lesions import RandSyntheticLesiond
from monai_ext.transforms.targets import PrepareTargetsd
from monai_ext.transforms.unit_range import IntegersToUnitd
from monai_ext.transforms.vector_field import FlipVectorField, Rotate90VectorField
from monai_ext.transforms.vector_field_rotation import RandRotateVectorFieldd
from monai_ext.transforms.vector_field_symmetries import RandFlipVectorFieldd, RandRotate90VectorFieldd

__all__ = [
    "CheckFinited",
    "ClearBackgroundd",
    "CorrectBiasField",
    "CorrectBiasFieldd",
    "CubePad",
    "CubePadd",
    "FlipVectorField",
    "IntegersToUnitd",
    "LoadCropd",
    "LoadVolumed",
    "MixedBatches",
    "NormalizeVolume",
    "PrepareTargetsd",
    "RandAugmentSlicesd",
    "RandFlipVectorFieldd",
    "RandGammad",
    "RandMultiplicativeNoised",
    "RandRotate90VectorFieldd",
    "RandRotateVectorFieldd",
    "RandSyntheticLesiond",
    "Rotate90VectorField",
    "ScaleUnitd",
    "is_nonzero",
]


def __getattr__(name: str) -> Any:
    return moved_name(__name__, name)
