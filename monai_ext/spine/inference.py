"""The series to predict."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from monai_ext.data.left_out import not_used
from monai_ext.data.problems import Problem
from monai_ext.data.walk import entries
from monai_ext.errors import DataError
from monai_ext.spine.checking import CLASS_STAGES, DEMO, MASK_STAGES, REFERENCE, SERIES
from monai_ext.spine.series import Series, find_series
from monai_ext.spine.unread import unread

_HOW_TO_GET = f"give a folder of series, or one with them in its sub-folder {SERIES!r}; {DEMO}"


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
        raise DataError(f"is not a folder; {_HOW_TO_GET}", dataset_dir)
    inside = (root / SERIES).is_dir()
    series, problems = find_series(root / SERIES if inside else root)
    if not series and all(problem.severity == "note" for problem in problems):
        raise DataError(f"holds no series; {_HOW_TO_GET}", dataset_dir)
    return series, [*problems, *(_beside(root) if inside else ())]


def _beside(root: Path) -> list[Problem]:
    """What isn't read because a folder has a sub-folder for series: training folders, and what may be more series."""
    others = [path.absolute() for path in entries(root) if path.name != SERIES]
    training = [path for path in others if path.is_dir() and path.name.startswith((*CLASS_STAGES, *MASK_STAGES))]
    masks = [path for path in others if path.is_dir() and path.name == REFERENCE]
    rest = [path for path in others if path.is_dir() and path not in (*training, *masks)]
    alone = f"beside {SERIES!r}, which alone is read; move it there if it holds series"
    return [
        *(replace(one, severity="warning") for one in not_used(rest, lambda _: alone, root)),
        *not_used(training, lambda _: "for training", root),
        *not_used(masks, lambda _: "masks to compare with", root),
        *unread((path for path in others if not path.is_dir()), (), root),
    ]
