"""Figures, one static HTML file for each run and cross-validation, and runs side by side."""

from monai_ext.reports.html import is_cross_validation, write_cross_validation_report, write_report
from monai_ext.reports.plots import save_all
from monai_ext.reports.slices import slice_figure

__all__ = ["is_cross_validation", "save_all", "slice_figure", "write_cross_validation_report", "write_report"]
