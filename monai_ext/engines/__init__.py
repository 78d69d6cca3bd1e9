"""Iterations for MONAI's engines, with guards that would come too late in a handler."""

from monai_ext.engines.batches import ImageAndTargets, image_only, items_only
from monai_ext.engines.distributed import distribute
from monai_ext.engines.evaluation_step import EvaluationStep
from monai_ext.engines.precision import Autocast, autocast_dtype
from monai_ext.engines.skipped_batches import TrainingError
from monai_ext.engines.training_step import TrainingStep
from monai_ext.memory import is_out_of_memory

__all__ = [
    "Autocast",
    "EvaluationStep",
    "ImageAndTargets",
    "TrainingError",
    "TrainingStep",
    "autocast_dtype",
    "distribute",
    "image_only",
    "is_out_of_memory",
    "items_only",
]
