"""Figures, one static HTML file per run or cross-validation, and a comparison of runs."""

from typing import Any

from monai_ext.moved import moved_name
from monai_ext.reports.cross_validation import is_cross_validation, write_cross_validation_report
from monai_ext.reports.html import write_report
from monai_ext.reports.plots import save_all
from monai_ext.reports.slices import slice_figure

__all__ = [
    "is_cross_validation",
    "save_all",
    "slice_figure",
    "write_cross_validation_report",
    "write_report",
]


def __getattr__(name: str) -> Any:
    return moved_name(__name__, name)
