"""Spine MRI: the series of a folder, results in their geometry, and the training folders of the cascade's stages.

Items of training folders are dicts:

- ``case``: path below the folder without suffix,
- ``patient``: the sub-folder, else the file name up to its first "_",
- ``image``: absolute path of the slice, ``mask``: that of its mask (`image_mask_items`),
- ``label``: from 0, the position in the class map (`class_items`),
- ``stamp``: [[size in bytes, modification time in ns], ...] of the files, for caches.
"""

from monai_ext.data.spine.checking import check
from monai_ext.data.spine.class_folders import class_items, class_names, load_class_map, save_class_map
from monai_ext.data.spine.folders import split_by_patient
from monai_ext.data.spine.image import SeriesImage
from monai_ext.data.spine.image_mask import image_mask_items
from monai_ext.data.spine.inference import inference_series
from monai_ext.data.spine.series import Series, find_series
from monai_ext.data.spine.slices import read_slice
from monai_ext.data.spine.writing import write_dicom_seg, write_like

__all__ = [
    "Series",
    "SeriesImage",
    "check",
    "class_items",
    "class_names",
    "find_series",
    "image_mask_items",
    "inference_series",
    "load_class_map",
    "read_slice",
    "save_class_map",
    "split_by_patient",
    "write_dicom_seg",
    "write_like",
]
