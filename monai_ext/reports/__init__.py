"""Figures, one static HTML file for each run, cross-validation and batch of series, and runs side by side."""

from monai_ext.reports.batch import write_batch_report
from monai_ext.reports.html import is_cross_validation, write_cross_validation_report, write_report
from monai_ext.reports.overlay import overlay_figure
from monai_ext.reports.plots import save_all
from monai_ext.reports.slices import slice_figure

__all__ = [
    "is_cross_validation",
    "overlay_figure",
    "save_all",
    "slice_figure",
    "write_batch_report",
    "write_cross_validation_report",
    "write_report",
]
