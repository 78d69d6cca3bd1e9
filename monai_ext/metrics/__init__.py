"""What scikit-learn and MONAI don't give: metrics over all cases of all processes, intervals, calibration."""

from monai_ext.metrics.bootstrap import (
    bootstrap_interval,
    bootstrap_intervals,
    multi_label_intervals,
    segmentation_intervals,
)
from monai_ext.metrics.calibration import apply_platt, best_threshold, fit_platt, reliability_curve
from monai_ext.metrics.case_metric import ClassificationCases
from monai_ext.metrics.classification import ClassificationResult, Mistakes, classification_metrics
from monai_ext.metrics.head_metric import HeadCases, head_metrics, head_results
from monai_ext.metrics.label_metric import MultiLabelCases
from monai_ext.metrics.multi_label import MultiLabelResult, choose_thresholds, multi_label_metrics
from monai_ext.metrics.multi_target import MultiTargetResult, PatchRecord
from monai_ext.metrics.parts import merge_label_parts, merge_parts
from monai_ext.metrics.patch_metric import MultiTargetPatches
from monai_ext.metrics.segmentation import SegmentationResult, SliceRecord
from monai_ext.metrics.slice_metric import SegmentationCases

__all__ = [
    "ClassificationCases",
    "ClassificationResult",
    "HeadCases",
    "Mistakes",
    "MultiLabelCases",
    "MultiLabelResult",
    "MultiTargetPatches",
    "MultiTargetResult",
    "PatchRecord",
    "SegmentationCases",
    "SegmentationResult",
    "SliceRecord",
    "apply_platt",
    "best_threshold",
    "bootstrap_interval",
    "bootstrap_intervals",
    "choose_thresholds",
    "classification_metrics",
    "fit_platt",
    "head_metrics",
    "head_results",
    "merge_label_parts",
    "merge_parts",
    "multi_label_intervals",
    "multi_label_metrics",
    "reliability_curve",
    "segmentation_intervals",
]
