"""Crops of nuclei in TIFF stacks, with the chromatin class of each nucleus: items for training and inference, a check.

Items are dicts, one a crop:

- ``case``: sample id as its folder is called,
- ``image``: `TiffStack` of the nucleus, ``mask``: the same of its mask (with ``use_mask`` only),
- ``crop_z``, ``crop_y``, ``crop_x``: first voxel of the crop,
- ``label``: from 0, the position in the class map; absent when unknown,
- ``stamp``: changes with the names, sizes and times of the sample's files, for caches.
"""

from monai_ext.data.crop_grid import crop_grid, input_size, trimmed_size
from monai_ext.data.nuclei.checking import check
from monai_ext.data.nuclei.classes import class_map, class_names, saved_class_map
from monai_ext.data.nuclei.indexing import NucleiIndex, index
from monai_ext.data.nuclei.items import inference_items
from monai_ext.data.nuclei.split import splits

__all__ = [
    "NucleiIndex",
    "check",
    "class_map",
    "class_names",
    "crop_grid",
    "index",
    "inference_items",
    "input_size",
    "saved_class_map",
    "splits",
    "trimmed_size",
]
