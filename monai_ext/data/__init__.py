"""Data sources, one file each, and what they share: splits, prepared volumes, checks."""

from monai_ext.data.loader import SeededLoader
from monai_ext.data.multi_label import positive_weights, sample_weights
from monai_ext.data.normals import decode_normals, encode_normals
from monai_ext.data.patches import find_patches
from monai_ext.data.patches_file import cached_patches
from monai_ext.data.prepared import PreparedDataset, prepare
from monai_ext.data.problems import Problem
from monai_ext.data.seeded import SeededDataset
from monai_ext.data.slice_cache import SliceCache
from monai_ext.data.splits import class_counts, grouped_stratified_folds, with_inner
from monai_ext.data.tiff_stack import TiffStack
from monai_ext.data.zarr_patches import ZarrPatchDataset

__all__ = [
    "PreparedDataset",
    "Problem",
    "SeededDataset",
    "SeededLoader",
    "SliceCache",
    "TiffStack",
    "ZarrPatchDataset",
    "cached_patches",
    "class_counts",
    "decode_normals",
    "encode_normals",
    "find_patches",
    "grouped_stratified_folds",
    "positive_weights",
    "prepare",
    "sample_weights",
    "with_inner",
]
