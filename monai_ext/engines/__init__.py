"""Parts around MONAI's engines, for what a handler would learn of too late."""

from monai_ext.engines.batches import ImageAndTargets, image_only, items_only
from monai_ext.engines.distributed import distribute
from monai_ext.engines.precision import autocast_dtype, use_cuda_amp
from monai_ext.engines.training_step import TrainingError, TrainingStep, is_out_of_memory

__all__ = [
    "ImageAndTargets",
    "TrainingError",
    "TrainingStep",
    "autocast_dtype",
    "distribute",
    "image_only",
    "is_out_of_memory",
    "items_only",
    "use_cuda_amp",
]
