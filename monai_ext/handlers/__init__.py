"""Ignite handlers that the bundles share; `StandardTraining` is the one that configs name."""

from typing import Any

from monai_ext.handlers.best import BestEpoch
from monai_ext.handlers.checkpoint import Checkpoints
from monai_ext.handlers.classification_outputs import ClassificationOutputs
from monai_ext.handlers.deferred_reweighting import DeferredReweighting
from monai_ext.handlers.early_stopping import EarlyStopping
from monai_ext.handlers.freeze_backbone import FreezeBackbone
from monai_ext.handlers.freeze_layers import FreezeLayers
from monai_ext.handlers.head_outputs import HeadOutputs
from monai_ext.handlers.history import History
from monai_ext.handlers.load_checkpoint import LoadCheckpoint, evaluated_checkpoint, fold_checkpoints
from monai_ext.handlers.memory_monitor import MemoryMonitor
from monai_ext.handlers.mlflow_tracker import MLflowTracker
from monai_ext.handlers.multi_label_outputs import MultiLabelOutputs
from monai_ext.handlers.multi_label_writer import MultiLabelWriter
from monai_ext.handlers.prediction_writer import PredictionWriter
from monai_ext.handlers.progressive_unfreeze import ProgressiveUnfreeze
from monai_ext.handlers.run_records import RunRecords
from monai_ext.handlers.seeding import IterationSeeding
from monai_ext.handlers.segmentation_outputs import SegmentationOutputs
from monai_ext.handlers.signals import GracefulSignals, Interrupted
from monai_ext.handlers.slice_previews import SlicePreviews
from monai_ext.handlers.standard_evaluation import StandardEvaluation
from monai_ext.handlers.standard_training import StandardTraining
from monai_ext.handlers.target_outputs import TargetOutputs
from monai_ext.handlers.tensorboard import TensorBoard
from monai_ext.handlers.validation_device import ValidationDevice
from monai_ext.moved import moved_name

__all__ = [
    "BestEpoch",
    "Checkpoints",
    "ClassificationOutputs",
    "DeferredReweighting",
    "EarlyStopping",
    "FreezeBackbone",
    "FreezeLayers",
    "GracefulSignals",
    "HeadOutputs",
    "History",
    "Interrupted",
    "IterationSeeding",
    "LoadCheckpoint",
    "MLflowTracker",
    "MemoryMonitor",
    "MultiLabelOutputs",
    "MultiLabelWriter",
    "PredictionWriter",
    "ProgressiveUnfreeze",
    "RunRecords",
    "SegmentationOutputs",
    "SlicePreviews",
    "StandardEvaluation",
    "StandardTraining",
    "TargetOutputs",
    "TensorBoard",
    "ValidationDevice",
    "evaluated_checkpoint",
    "fold_checkpoints",
]


def __getattr__(name: str) -> Any:
    return moved_name(__name__, name)
