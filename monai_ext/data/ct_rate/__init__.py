"""CT-RATE: chest CTs with 18 abnormalities each; items for training and inference, extraction of slices, a check.

Items are dicts, one a slice or one a volume:

- ``case``: the volume's name as in CT-RATE's tables, ``train_1_a_1.nii.gz``,
- ``image``: path of the volume, or (lists of) paths of slices, for `monai_ext.transforms.LoadChestCTd`,
- ``slice``: index along Z, for a slice,
- ``label``: float32 (classes,) of 0 and 1; absent when unknown,
- ``rescale``, ``spacing``: what the metadata table says of the volume,
- ``stamp``: size and time of the file, for caches.
"""

from monai_ext.data.ct_rate.checking import check
from monai_ext.data.ct_rate.extraction import extract_slices
from monai_ext.data.ct_rate.indexing import VolumeIndex, volumes
from monai_ext.data.ct_rate.inference import inference_items
from monai_ext.data.ct_rate.items import slice_items, volume_items
from monai_ext.data.ct_rate.labels import LABELS, class_names
from monai_ext.data.ct_rate.positions import slice_positions
from monai_ext.data.ct_rate.slice_table import extracted_slices
from monai_ext.data.ct_rate.split import splits
from monai_ext.data.ct_rate.view import View, levels
from monai_ext.data.ct_rate.volume import Volume

__all__ = [
    "LABELS",
    "View",
    "Volume",
    "VolumeIndex",
    "check",
    "class_names",
    "extract_slices",
    "extracted_slices",
    "inference_items",
    "levels",
    "slice_items",
    "slice_positions",
    "splits",
    "volume_items",
    "volumes",
]
