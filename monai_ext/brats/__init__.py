"""BraTS 2018: items for training and inference with the tumour grade of each subject, demo data, a check."""

from typing import Any

from monai_ext.lazy import lazy_name

_NAMES = {
    "check": ".data",
    "find_subjects": ".data",
    "fold_items": ".data",
    "inference_items": ".data",
    "splits": ".data",
}
__all__ = sorted(_NAMES)


def __getattr__(name: str) -> Any:
    return lazy_name(__name__, _NAMES, name)
