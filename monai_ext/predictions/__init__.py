"""Predictions of each kind of task: one class per kind, which a config names once, and one writer for all of them."""

from typing import TYPE_CHECKING, Any

from monai_ext.lazy import lazy_name

if TYPE_CHECKING:
    from monai_ext.predictions.classification import Classification
    from monai_ext.predictions.kind import Predictions
    from monai_ext.predictions.masks import Masks
    from monai_ext.predictions.multi_label import MultiLabel
    from monai_ext.predictions.patches import Patches
    from monai_ext.predictions.writing import Files

_NAMES = {
    "Classification": ".classification",
    "Files": ".writing",
    "Masks": ".masks",
    "MultiLabel": ".multi_label",
    "Patches": ".patches",
    "Predictions": ".kind",
}

__all__ = ["Classification", "Files", "Masks", "MultiLabel", "Patches", "Predictions"]


def __getattr__(name: str) -> Any:
    return lazy_name(__name__, _NAMES, name)
