"""CT-RATE: chest CTs with 18 abnormalities each; items for training and inference, extraction of slices, a check.

Items are dicts, one per slice or per volume:

- ``case``: the volume's name as in CT-RATE's tables, ``train_1_a_1.nii.gz``,
- ``patient``: whose it is; the volume's name where that doesn't tell,
- ``image``: path of the volume, or (lists of) paths of slices, for `monai_ext.ct_rate.LoadChestCTd`,
- ``slice``: index along Z, for a slice,
- ``label``: float32 (classes,) of 0 and 1; absent when unknown,
- ``rescale``: slope and intercept, and ``spacing``: voxel edges in mm (Z, Y, X), both from the metadata table,
- ``manufacturer`` and ``scanner`` (its model) of a volume, from the metadata table; empty when unknown,
- ``stamp``: size and time of the file, for caches,
- ``reading``: how a volume's Hounsfield units were found; added when it is read, of slices known before.
"""

from typing import Any

from monai_ext.lazy import lazy_name

_NAMES = {
    "LABELS": ".labels",
    "LoadChestCTd": ".transforms",
    "LoadChestd": ".transforms",
    "View": ".view",
    "Volume": ".volume",
    "VolumeIndex": ".indexing",
    "check": ".checking",
    "class_names": ".labels",
    "extract_slices": ".extraction",
    "extracted_slices": ".slice_table",
    "inference_items": ".inference",
    "levels": ".view",
    "slice_items": ".items",
    "slice_positions": ".positions",
    "splits": ".split",
    "volume_items": ".items",
    "volumes": ".indexing",
}
__all__ = sorted(_NAMES)


def __getattr__(name: str) -> Any:
    return lazy_name(__name__, _NAMES, name)
