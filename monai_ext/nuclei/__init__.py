"""Crops of nuclei in TIFF stacks, with the chromatin class of each nucleus: items for training and inference, a check.

Items are dicts, one per crop:

- ``case``: sample id, the name of its folder,
- ``image``: `TiffStack` of the nucleus, ``mask``: `TiffStack` of its mask (with ``use_mask`` only),
- ``crop_z``, ``crop_y``, ``crop_x``: first voxel of the crop,
- ``label``: from 0, the position in the class map; absent when unknown,
- ``stamp``: changes with the names, sizes and times of the sample's files, for caches.
"""

from typing import Any

from monai_ext.lazy import lazy_name

_NAMES = {
    "trimmed_size": "monai_ext.data.crop_grid",
    "input_size": "monai_ext.data.crop_grid",
    "crop_grid": "monai_ext.data.crop_grid",
    "NucleiIndex": ".indexing",
    "check": ".checking",
    "class_map": ".classes",
    "class_names": ".classes",
    "index": ".indexing",
    "inference_items": ".items",
    "saved_class_map": ".classes",
    "splits": ".split",
}
__all__ = sorted(_NAMES)


def __getattr__(name: str) -> Any:
    return lazy_name(__name__, _NAMES, name)
