"""Ignite handlers that the bundles share; `StandardTraining` is the one that configs name."""

from typing import Any

from monai_ext.handlers.best import BestEpoch
from monai_ext.handlers.checkpoint import Checkpoints
from monai_ext.handlers.deferred_reweighting import DeferredReweighting
from monai_ext.handlers.early_stopping import EarlyStopping
from monai_ext.handlers.freeze_backbone import FreezeBackbone
from monai_ext.handlers.freeze_layers import FreezeLayers
from monai_ext.handlers.history import History
from monai_ext.handlers.load_checkpoint import LoadCheckpoint, evaluated_checkpoint, fold_checkpoints
from monai_ext.handlers.memory_monitor import MemoryMonitor
from monai_ext.handlers.mlflow_tracker import MLflowTracker
from monai_ext.handlers.progressive_unfreeze import ProgressiveUnfreeze
from monai_ext.handlers.run_records import RunRecords
from monai_ext.handlers.seeding import IterationSeeding
from monai_ext.handlers.signals import GracefulSignals, Interrupted
from monai_ext.handlers.slice_previews import SlicePreviews
from monai_ext.handlers.standard_evaluation import StandardEvaluation
from monai_ext.handlers.standard_training import StandardTraining
from monai_ext.handlers.tensorboard import TensorBoard
from monai_ext.handlers.validation_device import ValidationDevice
from monai_ext.handlers.write_left_out import WriteLeftOut
from monai_ext.handlers.write_predictions import WritePredictions
from monai_ext.moved import moved_name

__all__ = [
    "BestEpoch",
    "Checkpoints",
    "DeferredReweighting",
    "EarlyStopping",
    "FreezeBackbone",
    "FreezeLayers",
    "GracefulSignals",
    "History",
    "Interrupted",
    "IterationSeeding",
    "LoadCheckpoint",
    "MLflowTracker",
    "MemoryMonitor",
    "ProgressiveUnfreeze",
    "RunRecords",
    "SlicePreviews",
    "StandardEvaluation",
    "StandardTraining",
    "TensorBoard",
    "ValidationDevice",
    "WriteLeftOut",
    "WritePredictions",
    "evaluated_checkpoint",
    "fold_checkpoints",
]


def __getattr__(name: str) -> Any:
    return moved_name(__name__, name)
