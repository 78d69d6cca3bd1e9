"""Surfaces in huge Zarr volumes: sets of an image and its targets, where to train, and what is wrong with them.

Patches are dicts:

- ``case``: "volume 0 at 128 0 64", unique within a run,
- ``volume_idx``: of the set, from 0,
- ``start_pos``: first voxel [z, y, x],
- ``stamp``: changes with the reference label.
"""

from monai_ext.data.surface.checking import check
from monai_ext.data.surface.finding import patches
from monai_ext.data.surface.intensities import intensity
from monai_ext.data.surface.sets import volume_sets
from monai_ext.data.surface.split import splits

__all__ = [
    "check",
    "intensity",
    "patches",
    "splits",
    "volume_sets",
]
