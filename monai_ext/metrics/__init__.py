"""Metrics with reasons for what can't be computed, confidence intervals and calibration, on scikit-learn and MONAI."""

from typing import Any

from monai_ext.metrics.bootstrap import bootstrap_interval, classification_intervals
from monai_ext.metrics.calibration import apply_platt, best_threshold, calibration_line, fit_platt
from monai_ext.metrics.classification import ClassificationResult, Mistakes, classification_metrics
from monai_ext.metrics.cross_fitting import CrossFitted
from monai_ext.metrics.heads import head_metrics, head_results
from monai_ext.metrics.intervals import Interval, interval_entries
from monai_ext.metrics.multi_label import MultiLabelResult, choose_thresholds, merge_label_parts, multi_label_metrics
from monai_ext.metrics.multi_label_bootstrap import multi_label_intervals
from monai_ext.metrics.multi_target import MultiTargetResult, PatchRecord
from monai_ext.metrics.parts import merge_parts
from monai_ext.metrics.segmentation import SegmentationResult, SliceRecord, segmentation_intervals
from monai_ext.moved import moved_name

__all__ = [
    "ClassificationResult",
    "CrossFitted",
    "Interval",
    "Mistakes",
    "MultiLabelResult",
    "MultiTargetResult",
    "PatchRecord",
    "SegmentationResult",
    "SliceRecord",
    "apply_platt",
    "best_threshold",
    "bootstrap_interval",
    "calibration_line",
    "choose_thresholds",
    "classification_intervals",
    "classification_metrics",
    "fit_platt",
    "head_metrics",
    "head_results",
    "interval_entries",
    "merge_label_parts",
    "merge_parts",
    "multi_label_intervals",
    "multi_label_metrics",
    "segmentation_intervals",
]


def __getattr__(name: str) -> Any:
    return moved_name(__name__, name)
