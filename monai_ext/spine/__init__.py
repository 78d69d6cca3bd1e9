"""Spine MRI: the series of a folder, results in their geometry, and the training folders of the cascade's stages.

Items of training folders are dicts:

- ``case``: path below the folder without suffix,
- ``patient``: the sub-folder, else the file name up to its first "_",
- ``image``: absolute path of the slice, or of a volume (of DICOM its folder), ``mask``: that of its mask
  (`image_mask_items`), ``cord``: that of the cord's,
- ``slice``: of a volume, the number of the slice in the order of inference,
- ``label``: from 0, the position in the class map (`class_items`),
- ``stamp``: [[size in bytes, modification time in ns], ...] of the files, for caches.
"""

from typing import Any

from monai_ext.lazy import lazy_name
from monai_ext.moved import NAMES, moved_name

_NAMES = {
    "CascadeBatch": ".cascade.batch",
    "CascadeResult": ".cascade.result",
    "CascadeStages": ".cascade.stages",
    "CascadeTraining": ".training",
    "LoadSeriesd": ".slices_of_volume",
    "LoadSliced": ".load_slice",
    "SaveClassMap": ".class_map",
    "Series": ".series",
    "SeriesImage": ".image",
    "SliceStage": ".cascade.stage",
    "SpineCascade": ".cascade.cascade",
    "VolumeToSlicesd": ".slices_of_volume",
    "Vote": ".voting",
    "check": ".checking",
    "check_stage": ".stage",
    "class_items": ".class_folders",
    "class_names": ".class_folders",
    "class_sample_weights": ".balance",
    "class_weights": ".balance",
    "find_series": ".series",
    "extract_slices": ".extraction",
    "image_mask_items": ".image_mask",
    "inference_series": ".inference",
    "load_class_map": ".class_folders",
    "read_slice": ".slices",
    "save_class_map": ".class_folders",
    "series_vote": ".voting",
    "shared_classes": ".heads",
    "shared_items": ".heads",
    "split_by_patient": ".folders",
    "stage_classes": ".stage",
    "stage_items": ".stage",
    "write_dicom_seg": ".writing",
    "write_like": ".writing",
}
__all__ = sorted(_NAMES)


def __getattr__(name: str) -> Any:
    return moved_name(__name__, name) if name in NAMES[__name__] else lazy_name(__name__, _NAMES, name)
