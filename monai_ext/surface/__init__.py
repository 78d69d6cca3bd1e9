"""Surfaces in huge Zarr volumes: sets of an image and its targets, training patches, and a check.

Patches are dicts:

- ``case``: "volume 0 at 128 0 64", unique within a run,
- ``volume_idx``: index of the set, from 0,
- ``start_pos``: first voxel [z, y, x],
- ``stamp``: changes with the reference label, for caches.
"""

from typing import Any

from monai_ext.lazy import lazy_name

_NAMES = {
    "TargetScoresd": ".scores",
    "check": ".checking",
    "inference_items": ".inference",
    "intensity": ".intensities",
    "patches": ".finding",
    "predicted_targets": ".weights",
    "saved_network": ".weights",
    "splits": ".split",
    "surface_predictor": ".predictor",
    "volume_sets": ".sets",
}
__all__ = sorted(_NAMES)


def __getattr__(name: str) -> Any:
    return lazy_name(__name__, _NAMES, name)
