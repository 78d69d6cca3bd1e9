"""BraTS: items for training and inference with the tumour grade of each subject, demo data, a check.

Labels count from 0: LGG 0, HGG 1. Scanning opens no image; items are dicts with

- ``case``: subject id (or file stem),
- ``image``: absolute path of the volume, or a list of four in the order of `monai_ext.brats.names.MODALITIES` for
  modality "all",
- ``label``: 0 or 1, absent when unknown,
- ``patient``: who it is: the table's word for it, or the id without the time point,
- ``stamp``: [[size in bytes, modification time in ns], ...] of the files, for caches.
"""

from typing import Any

from monai_ext.lazy import lazy_name

_NAMES = {
    "check": ".checking",
    "find_subjects": ".subjects",
    "fold_items": ".split",
    "inference_items": ".inference",
    "splits": ".split",
}
__all__ = sorted(_NAMES)


def __getattr__(name: str) -> Any:
    return lazy_name(__name__, _NAMES, name)
