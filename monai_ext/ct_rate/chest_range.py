"""Where the chest begins and ends in a CT that may show the neck and the abdomen, too."""

from __future__ import annotations

import logging

import numpy as np
from scipy.ndimage import binary_fill_holes

from monai_ext.ct_rate.chest_ct import ChestCT

logger = logging.getLogger(__name__)

AIR = -500.0  # HU: lungs and air are below, tissue above
LEAST_LUNG = 0.01  # of a slice, in the slice with the most
SHARE = 0.1  # of that fraction, for a slice to belong to the chest


def chest_range(ct: ChestCT) -> tuple[int, int]:
    """First and last slice with lungs, both included; the whole volume when it shows no lungs.

    Lungs are the voxels below -500 HU that the body encloses within a slice: not the air around the patient, and gas in
    the bowels only where it fills a large fraction of the slice. Of several ranges (there may be gas in the stomach)
    the one with the most lung is returned.
    """
    area = _lung_area(ct)
    if area.max() < LEAST_LUNG:
        logger.warning("a CT shows no lungs; all its slices are taken as chest")
        return 0, len(area) - 1
    inside = np.concatenate([[False], area >= SHARE * area.max(), [False]])
    edges = np.flatnonzero(np.diff(inside.astype(np.int8)))
    first, last = max(zip(edges[::2], edges[1::2] - 1, strict=True), key=lambda run: area[run[0] : run[1] + 1].sum())
    return int(first), int(last)


def _lung_area(ct: ChestCT) -> np.ndarray:
    """Fraction of each slice that is lung, from about 128 voxels per axis: as good as 512, sixteen times as fast."""
    depth, height, width = ct.stored.shape
    step = max(1, min(height, width) // 128)
    areas = []
    for z in range(depth):
        body = ct.hounsfield(z, step) > AIR
        areas.append((binary_fill_holes(body) & ~body).mean())
    return np.array(areas)
