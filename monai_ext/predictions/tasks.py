"""The class of each kind of task, by its name in ``metrics.json``."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from monai_ext.errors import DataError
from monai_ext.predictions.kind import Predictions

_KINDS = {
    "classification": "Classification",
    "multi_label": "MultiLabel",
    "segmentation": "Masks",
    "multi_task": "Patches",
}


def task_of(metrics: Mapping[str, Any]) -> str:
    """Name of the kind of task in a ``metrics.json``; old files lack it for two of the kinds."""
    return str(metrics.get("task") or ("multi_task" if metrics.get("per_target") else "classification"))


def kind_of(task: str) -> type[Predictions]:
    """The class of a kind of task.

    Args:
        task: name of the kind in ``metrics.json``.

    Raises:
        DataError: for an unknown name.
    """
    if task not in _KINDS:
        raise DataError(f"the task {task!r} is unknown; there are {', '.join(_KINDS)}")
    # Imported late and by name: a run needs its own kind only.
    found: type[Predictions] = getattr(importlib.import_module("monai_ext.predictions"), _KINDS[task])
    return found
