"""Crops of nuclei in TIFF stacks, with the chromatin class of each nucleus: items for training and inference, a check.

Items are dicts, one a crop:

- ``case``: sample id as its folder is called,
- ``image``: `TiffStack` of the nucleus, ``mask``: the same of its mask (with ``use_mask`` only),
- ``crop_z``, ``crop_y``, ``crop_x``: first voxel of the crop,
- ``label``: from 0, the position in the class map; absent when unknown,
- ``stamp``: changes with the names, sizes and times of the sample's files, for caches.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from monai_ext.data.crop_grid import crop_grid, input_size, trimmed_size
from monai_ext.data.nuclei_check import check
from monai_ext.data.nuclei_classes import (
    ClassMap,
    class_map,
    class_names,
    label_of,
    saved_class_map,
    warn_of_other_names,
)
from monai_ext.data.nuclei_index import NucleiIndex, index
from monai_ext.data.nuclei_scan import Nucleus
from monai_ext.data.splits import grouped_stratified_folds
from monai_ext.errors import ConfigError, DataError

__all__ = [
    "NucleiIndex",
    "check",
    "class_map",
    "class_names",
    "crop_grid",
    "index",
    "inference_items",
    "input_size",
    "saved_class_map",
    "split_items",
    "splits",
    "trimmed_size",
]

SECTIONS = ("train", "val", "test")
MORE_DATA = "use fewer num_folds, more sample_percent, less test_fraction, or put the class into excluded_classes"


def split_items(
    index: NucleiIndex,
    class_map: ClassMap,
    section: str,
    fold: int = 1,
    num_folds: int = 5,
    test_fraction: float = 0.15,
    seed: int = 42,
    sample_percent: float = 100.0,
) -> list[dict[str, Any]]:
    """The crops of one side of a split by nucleus, stratified by class; in natural order of the sample ids.

    First the test part is set aside, then the rest is cut into folds. The same samples give the same split, in
    whatever order they come; samples whose class isn't in the map take no part.

    Args:
        section: "train", "val" (fold ``fold``) or "test" (the same for all folds).
        fold: from 1 to ``num_folds``.
        test_fraction: of the nuclei, 0 for no test part.
        sample_percent: share of the nuclei of each class to use at all, at least one; drawn by ``seed``.

    Raises:
        ConfigError: for an argument out of range.
        DataError: for a class with too few samples.
    """
    if section not in SECTIONS:
        raise ConfigError(f"split_items: section must be one of {list(SECTIONS)}, got {section!r}")
    if isinstance(fold, bool) or not isinstance(fold, int) or not 1 <= fold <= num_folds:
        raise ConfigError(f"split_items: fold must be an integer from 1 to {num_folds}, got {fold!r}")
    if not 0 <= test_fraction < 1 or not 0 < sample_percent <= 100:
        raise ConfigError(
            "split_items: test_fraction must be from 0 to below 1 and sample_percent above 0 and at most 100, "
            f"got {test_fraction} and {sample_percent}"
        )
    if section == "test" and test_fraction == 0:
        raise ConfigError("split_items: there is no test part with test_fraction 0")
    warn_of_other_names(index, class_map)
    labels = {sample.case: label for sample in index.samples if (label := label_of(sample, class_map)) is not None}
    chosen = _draw(labels, sample_percent, seed)
    names = class_names(class_map)
    if test_fraction > 0:
        _require(chosen, labels, names, num_folds + 1, f"a test part and {num_folds} folds")
    rest, test = _set_aside(chosen, labels, test_fraction, seed)
    if section == "test":
        cases = set(test)
    else:
        _require(rest, labels, names, num_folds, f"{num_folds} folds of what is not test part")
        train, val = grouped_stratified_folds(rest, [labels[case] for case in rest], num_folds, seed)[fold - 1]
        cases = {rest[i] for i in (train if section == "train" else val)}
    return [item for sample in index.samples if sample.case in cases for item in _items(sample, labels[sample.case])]


def splits(
    index: NucleiIndex,
    class_map: ClassMap,
    fold: int = 1,
    num_folds: int = 5,
    test_fraction: float = 0.15,
    seed: int = 42,
    sample_percent: float = 100.0,
) -> dict[str, list[dict[str, Any]]]:
    sections = SECTIONS if test_fraction else SECTIONS[:2]
    arguments = (fold, num_folds, test_fraction, seed, sample_percent)
    return {section: split_items(index, class_map, section, *arguments) for section in sections}


def inference_items(index: NucleiIndex, class_map: ClassMap) -> list[dict[str, Any]]:
    """All crops of all samples; with a label where the sample's class is in the map."""
    warn_of_other_names(index, class_map)
    return [item for sample in index.samples for item in _items(sample, label_of(sample, class_map))]


def _items(sample: Nucleus, label: int | None) -> list[dict[str, Any]]:
    shared: dict[str, Any] = {"case": sample.case, "image": sample.image, "stamp": sample.stamp}
    if sample.mask is not None:
        shared["mask"] = sample.mask
    if label is not None:
        shared["label"] = label
    return [{**shared, "crop_z": z, "crop_y": y, "crop_x": x} for z, y, x in sample.crops]


def _draw(labels: dict[str, int], percent: float, seed: int) -> list[str]:
    """The cases to use, sorted; a larger share contains a smaller one."""
    members: dict[int, list[str]] = defaultdict(list)
    for case in sorted(labels):
        members[labels[case]].append(case)
    drawn = []
    for label, cases in sorted(members.items()):
        order = np.random.default_rng([seed, label]).permutation(len(cases))
        count = max(1, round(len(cases) * percent / 100))
        drawn += [cases[i] for i in order[:count]]
    return sorted(drawn)


def _require(cases: Sequence[str], labels: dict[str, int], names: Sequence[str], least: int, purpose: str) -> None:
    counts = Counter(labels[case] for case in cases)
    for label, name in enumerate(names):
        if counts[label] < least:
            raise DataError(
                f"split_items: class {name!r} has {counts[label]} samples, too few for {purpose}; {MORE_DATA}"
            )


def _set_aside(cases: list[str], labels: dict[str, int], fraction: float, seed: int) -> tuple[list[str], list[str]]:
    from sklearn.model_selection import train_test_split

    if fraction == 0:
        return cases, []
    try:
        rest, test = train_test_split(
            cases, test_size=fraction, random_state=seed, stratify=[labels[case] for case in cases]
        )
    except ValueError as error:
        raise DataError(f"split_items: {fraction:g} of {len(cases)} samples is no test part: {error}") from error
    return sorted(rest), sorted(test)
