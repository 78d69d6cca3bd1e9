"""Spine MRI: the series of a folder, results in their geometry, and the training folders of the cascade's stages.

Items of training folders are dicts:

- ``case``: path below the folder without suffix,
- ``patient``: the sub-folder, else the file name up to its first "_",
- ``image``: absolute path of the slice, ``mask``: that of its mask (`image_mask_items`), ``cord``: that of the cord's,
- ``label``: from 0, the position in the class map (`class_items`),
- ``stamp``: [[size in bytes, modification time in ns], ...] of the files, for caches.
"""

from monai_ext.data.spine.balance import class_weights, sample_weights
from monai_ext.data.spine.checking import check
from monai_ext.data.spine.class_folders import class_items, class_names, load_class_map, save_class_map
from monai_ext.data.spine.folders import split_by_patient
from monai_ext.data.spine.heads import shared_classes, shared_items
from monai_ext.data.spine.image import SeriesImage
from monai_ext.data.spine.image_mask import image_mask_items
from monai_ext.data.spine.inference import inference_series
from monai_ext.data.spine.series import Series, find_series
from monai_ext.data.spine.slices import read_slice
from monai_ext.data.spine.stage import check_stage, stage_classes, stage_items
from monai_ext.data.spine.writing import write_dicom_seg, write_like

__all__ = [
    "Series",
    "SeriesImage",
    "check",
    "check_stage",
    "class_items",
    "class_names",
    "class_weights",
    "find_series",
    "image_mask_items",
    "inference_series",
    "load_class_map",
    "read_slice",
    "sample_weights",
    "save_class_map",
    "shared_classes",
    "shared_items",
    "split_by_patient",
    "stage_classes",
    "stage_items",
    "write_dicom_seg",
    "write_like",
]
