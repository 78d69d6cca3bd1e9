"""Training, validation and test patches without common voxels."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from monai_ext.data.splits import Splits
from monai_ext.errors import ConfigError, DataError

logger = logging.getLogger(__name__)

# A region is cut when a set has less than this fraction of its goal.
ENOUGH = 0.8


def splits(
    patches: Sequence[dict[str, Any]],
    sets: Sequence[Mapping[str, str]],
    patch_size: Sequence[int],
    tr_val_split: float = 0.8,
    test_fraction: float = 0.0,
    seed: int = 0,
    inner_fraction: float = 0.0,
) -> dict[str, list[dict[str, Any]]]:
    """Split by regions, so that no voxel is in two of training, validation and test set.

    A region is a group of patches of one input that overlaps connect, whichever set of volumes they were found in.
    Whole regions are drawn at random for test and validation, as long as these don't exceed their goals. If one then
    lacks more than a fifth of its goal, it gets one side of the largest region left, cut across its longest axis;
    patches that the plane cuts are left out.

    Args:
        patches: with ``volume_idx`` and ``start_pos``, see `patches`.
        sets: see `volume_sets`; two sets with one ``input`` share its voxels.
        patch_size: voxels along Z, Y, X.
        tr_val_split: fraction (between 0 and 1) of training patches among those outside the test set.
        test_fraction: fraction of all patches for the test set, from 0 (none) to below 1.
        seed: of the order of the regions and the sides of the cuts.
        inner_fraction: fraction of the training patches for a set "inner" to choose an epoch on, from 0 (none) to
            below 1, split off by regions in the same way.

    Returns:
        "train", "val" and "test" → patches, in their given order; "test" is empty without a ``test_fraction``.

    Raises:
        ConfigError: for a fraction out of range.
        DataError: when patches are too few, or lie too close to each other, to be split.
    """
    if not 0 < tr_val_split < 1 or not 0 <= test_fraction < 1 or not 0 <= inner_fraction < 1:
        raise ConfigError(
            "splits: tr_val_split must lie between 0 and 1 and test_fraction and inner_fraction from 0 to below 1, "
            f"got {tr_val_split}, {test_fraction} and {inner_fraction}"
        )
    starts = np.array([patch["start_pos"] for patch in patches], np.int64).reshape(-1, 3)
    size = np.array(patch_size, np.int64)
    inputs = [sets[patch["volume_idx"]]["input"] for patch in patches]
    rng = np.random.default_rng(seed)
    pool = _regions(starts, inputs, size)
    pool = [pool[index] for index in rng.permutation(len(pool))]
    test_goal = len(patches) * test_fraction
    goals = {"test": test_goal, "val": (len(patches) - test_goal) * (1 - tr_val_split)}
    members = {}
    for part, goal in goals.items():
        members[part] = np.sort(_fill(pool, max(1, round(goal)), starts, size, rng)) if goal else np.empty(0, np.int64)
    members["train"] = np.sort(np.concatenate(pool)) if pool else np.empty(0, np.int64)
    if any(not len(members[part]) for part in ("train", *(part for part, goal in goals.items() if goal))):
        raise DataError(
            f"splits: the {len(patches)} patches are too few, or overlap too much, for a split without common voxels; "
            "label more, take a smaller patch_size, or set test_fraction to 0"
        )
    left_out = len(patches) - sum(map(len, members.values()))
    counts = ", ".join(f"{part} {len(members[part])}" for part in ("train", "val", "test"))
    logger.info("patches: %s; %d left out, which lie across the border of two sets", counts, left_out)
    found = {part: [patches[index] for index in members[part].tolist()] for part in ("train", "val", "test")}
    if inner_fraction:
        halves = splits(found["train"], sets, patch_size, 1 - inner_fraction, seed=seed)
        found |= {"train": halves["train"], "inner": halves["val"]}
    parts: Splits[dict[str, Any]] = Splits(found)
    lost = len(patches) - sum(map(len, parts.values()))
    parts.left_out = [
        *getattr(sets, "left_out", ()),
        *([f"{lost} patches across the border of two sets"] if lost else []),
    ]
    return parts


def _regions(starts: np.ndarray, inputs: Sequence[str], size: np.ndarray) -> list[np.ndarray]:
    """Indices of the patches in each region, ascending."""
    _, volume = np.unique(np.array(inputs, dtype=object).astype(str), return_inverse=True)
    # Inputs beside each other along Z, too far to touch; a distance below 1 on every axis is an overlap.
    span = (np.ptp(starts[:, 0]) + 2 * size[0]) if len(starts) else 0
    places = (starts + np.outer(volume * span, [1, 0, 0])) / size
    # Where one patch starts is where the next of its kind does: one of each is enough.
    places, first = np.unique(places, axis=0, return_inverse=True)
    pairs = cKDTree(places).query_pairs(1 - 0.5 / size.max(), p=np.inf, output_type="ndarray")
    links = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(len(places), len(places)))
    _, region = connected_components(links, directed=False)
    region = region[first.ravel()]
    order = np.argsort(region, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(region[order])) + 1)


def _fill(
    pool: list[np.ndarray], goal: int, starts: np.ndarray, size: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Take about ``goal`` patches out of ``pool``."""
    taken: list[np.ndarray] = []
    missing = goal
    for index in reversed(range(len(pool))):
        if len(pool[index]) <= missing and len(pool) > 1:
            missing -= len(pool[index])
            taken.append(pool.pop(index))
    while missing > (1 - ENOUGH) * goal:
        pool.sort(key=len)
        for index in reversed(range(len(pool))):
            sides = _cut(pool[index], missing, starts, size, bool(rng.integers(2)))
            if sides is not None:
                taken.append(sides[0])
                pool[index] = sides[1]
                break
        else:
            # nothing can be cut: too much is better than nothing, as long as others remain
            if not taken and len(pool) > 1:
                taken.append(pool.pop(0))
            break
        missing -= len(taken[-1])
    return np.concatenate(taken) if taken else np.empty(0, np.int64)


def _cut(
    region: np.ndarray, count: int, starts: np.ndarray, size: np.ndarray, from_end: bool
) -> tuple[np.ndarray, np.ndarray] | None:
    """About ``count`` patches at one end of a region, and those beyond the plane; None when one side would be empty."""
    extent = np.ptp(starts[region], axis=0) / size
    axis = int(extent.argmax())
    edge = size[axis]
    # seen from the other end, the region begins where it ended
    near = -(starts[region, axis] + edge) if from_end else starts[region, axis]
    levels, counts = np.unique(near, return_counts=True)
    possible = levels + edge <= levels[-1]
    if not possible.any():
        return None
    choice = int(np.abs(np.cumsum(counts)[possible] - count).argmin())
    return region[near <= levels[choice]], region[near >= levels[choice] + edge]
