"""Where the chest begins and ends in a CT that may show the neck and the abdomen, too."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.ndimage import binary_fill_holes, label

from monai_ext.ct_rate.chest_ct import ChestCT

AIR = -500.0  # HU: lungs and air are below, tissue above
GAS = -930.0  # HU: gas in stomach, bowels and sinuses is below, even in emphysema much of a lung is above
LEAST_ABOVE_GAS = 0.25  # of a region, for it to be lung
LEAST_LUNG = 0.01  # of a slice, in the slice with the most
LEAST_OF_BODY = 0.06  # there, lung as a fraction of the body; in a chest it is 0.2 to 0.5
SHARE = 0.1  # of the most lung in a slice, for a slice to belong to the chest
SHORT = 1 / 3  # of the slices: a chest that is shorter and ends where the scan ends is the edge of another body part


class ChestRange(NamedTuple):
    """First and last slice with lungs, both included; and why this may be no chest, empty where it is one."""

    first: int
    last: int
    doubt: str = ""


def chest_range(ct: ChestCT) -> ChestRange:
    """The slices with lungs; the whole volume, with a doubt, when it shows none.

    Lungs are the regions below -500 HU that the body encloses in its slices, unless they are gas: a lung is denser than
    gas in stomach, bowels or sinuses. Of several ranges the one with the most lung is returned. It is doubted
    where the lungs are a small part of the body, or only their end is in the scan, as in a CT of the abdomen.
    """
    lung, body = _areas(ct)
    if lung.max() < LEAST_LUNG:
        return ChestRange(0, len(lung) - 1, "shows no lungs, so all its slices are taken as chest; is it one?")
    inside = np.concatenate([[False], lung >= SHARE * lung.max(), [False]])
    edges = np.flatnonzero(np.diff(inside.astype(np.int8)))
    first, last = max(zip(edges[::2], edges[1::2] - 1, strict=True), key=lambda run: lung[run[0] : run[1] + 1].sum())
    return ChestRange(int(first), int(last), _doubt(lung, body, first, last))


def _doubt(lung: np.ndarray, body: np.ndarray, first: int, last: int) -> str:
    fullest = lung.argmax()
    share, depth, length = lung[fullest] / body[fullest], len(lung), last - first + 1
    if share < LEAST_OF_BODY:
        return f"shows little lung, {share:.1%} of the body at most; is it a chest?"
    if length < SHORT * depth and (first == 0) != (last == depth - 1):
        end, other = ("upper", "neck") if first == 0 else ("lower", "abdomen")
        return f"shows only the {end} end of the lungs, in {length} of {depth} slices; is it a CT of the {other}?"
    return ""


def _areas(ct: ChestCT) -> tuple[np.ndarray, np.ndarray]:
    """Fractions of each slice that are lung and body, from about 128 voxels per axis: as good as 512, much faster."""
    depth, height, width = ct.stored.shape
    step = max(1, min(height, width) // 128)
    bodies, enclosed, above_gas = [], [], []
    for z in range(depth):
        hounsfield = ct.hounsfield(z, step)
        body = _body(hounsfield > AIR)
        bodies.append(body.mean())
        enclosed.append(body & (hounsfield <= AIR))
        above_gas.append(hounsfield > GAS)
    regions, count = label(enclosed)
    sizes = np.bincount(regions.ravel(), minlength=count + 1)
    above = np.bincount(regions[np.array(above_gas)], minlength=count + 1)
    is_lung = above >= LEAST_ABOVE_GAS * sizes
    is_lung[0] = False
    return is_lung[regions].mean(axis=(1, 2)), np.array(bodies)


def _body(dense: np.ndarray) -> np.ndarray:
    """The largest part of a slice, lest the foam in a table be lung, and all that it encloses."""
    parts, count = label(dense)
    return binary_fill_holes(parts == np.bincount(parts.ravel())[1:].argmax() + 1) if count else dense
