"""The series to predict."""

from __future__ import annotations

from pathlib import Path

from monai_ext.data.problems import Problem
from monai_ext.errors import DataError
from monai_ext.spine.checking import HOW_TO_GET, SERIES
from monai_ext.spine.series import Series, find_series


def inference_series(dataset_dir: str | Path) -> tuple[list[Series], list[Problem]]:
    """Series below ``dataset_dir``, and the problems of the others (see `find_series`).

    Args:
        dataset_dir: folder of series; as in `check`, only its sub-folder ``series`` is read where there is one.

    Raises:
        ConfigError: for DICOM files without the packages for DICOM.
        DataError: when there is no such folder, or no series in it.
    """
    root = Path(dataset_dir)
    if not root.is_dir():
        raise DataError(f"is not a folder; {HOW_TO_GET}", dataset_dir)
    series, problems = find_series(root / SERIES if (root / SERIES).is_dir() else root)
    if not series and all(problem.severity == "note" for problem in problems):
        raise DataError(f"holds no series; {HOW_TO_GET}", dataset_dir)
    return series, problems
