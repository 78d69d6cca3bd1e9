"""Sections of the data, cross-validation folds that don't depend on the order of the files, and class counts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Generic, NoReturn, TypeVar

import numpy as np

from monai_ext.errors import ConfigError, DataError

Entry = TypeVar("Entry")


class Splits(dict[str, list[Entry]], Generic[Entry]):
    """Name of a section ("train", "val", perhaps "test") → entries; an unknown section is a `ConfigError`.

    Attributes:
        left_out: a sentence for each reason why cases of the data are in no section, for the run's records.
    """

    left_out: Sequence[str] = ()

    def __missing__(self, section: str) -> NoReturn:
        raise ConfigError(f"--section {section}: there is no such section of the data; there are {', '.join(self)}")


def grouped_stratified_folds(
    groups: Sequence[str], labels: Sequence[int], n_splits: int = 5, seed: int = 42
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Split samples into folds with about equal class frequencies; a group (a patient) is never split.

    scikit-learn's ``StratifiedKFold``, or ``StratifiedGroupKFold`` where a group has several samples, on samples
    sorted by group: the same set of samples gives the same folds in whatever order it comes.

    Args:
        groups: group of each sample, such as its patient.
        labels: class of each sample, an integer.
        n_splits: number of folds, at least 2.
        seed: seed of the folds, at least 0.

    Returns:
        a pair of ascending indices (training, validation) into the arguments for each fold.

    Raises:
        DataError: for unequal lengths, or fewer groups of a class than folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    if len(groups) != len(labels):
        raise DataError(f"grouped_stratified_folds: {len(groups)} groups but {len(labels)} labels; give one each")
    members: dict[int, set[str]] = defaultdict(set)
    for group, label in zip(groups, labels, strict=True):
        members[label].add(group)
    if n_splits < 2 or not members:
        raise DataError(f"grouped_stratified_folds: need samples and at least 2 folds, got {len(groups)}, {n_splits}")
    for label, found in sorted(members.items()):
        if len(found) < n_splits:
            raise DataError(
                f"grouped_stratified_folds: class {label} has {len(found)} groups, too few for {n_splits} folds; "
                "use fewer folds or more data"
            )
    order = np.array(sorted(range(len(groups)), key=lambda i: (groups[i], labels[i])))
    sorted_groups = np.asarray(groups)[order]
    sorted_labels = np.asarray(labels)[order]
    alone = len(set(groups)) == len(groups)
    splitter = (StratifiedKFold if alone else StratifiedGroupKFold)(n_splits, shuffle=True, random_state=seed)
    return [
        (np.sort(order[train]), np.sort(order[val]))
        for train, val in splitter.split(order, sorted_labels, None if alone else sorted_groups)
    ]


def with_inner(
    parts: dict[str, list[dict[str, Any]]], fraction: float, seed: int = 42
) -> dict[str, list[dict[str, Any]]]:
    """Split "inner" off from the training set, to choose an epoch on without touching the validated fold.

    Patients (``patient`` of an item, else its ``case``) are drawn, never parts of one; the same fraction of those that
    have each class, a patient of several classes (labels) counting for the rarest one, and at least one where there
    are two.

    Args:
        parts: "train" and others → items.
        fraction: of the training patients, from 0 (the parts stay as they are) to below 1.
        seed: of the draw, at least 0.

    Returns:
        the parts, with a smaller "train" and "inner".

    Raises:
        ConfigError: for a fraction out of range.
        DataError: when either part would have no patient.
    """
    if not 0 <= fraction < 1:
        raise ConfigError(f"--inner_fraction {fraction}: must be from 0 to below 1")
    if not fraction:
        return parts
    classes: dict[str, set[int]] = defaultdict(set)
    for item in parts["train"]:
        label = np.atleast_1d(item.get("label", 0))
        found = np.flatnonzero(label > 0).tolist() if np.ndim(item.get("label", 0)) else label.tolist()
        classes[str(item.get("patient", item["case"]))].update(found)
    sizes = Counter(label for found in classes.values() for label in found)
    strata: dict[int, list[str]] = defaultdict(list)
    for patient in sorted(classes):
        strata[min(classes[patient], key=lambda label: (sizes[label], label), default=-1)].append(patient)
    rng = np.random.default_rng([seed, len(classes)])
    inner: set[str] = set()
    for _, patients in sorted(strata.items()):
        count = min(max(round(fraction * len(patients)), 1), len(patients) - 1)
        inner.update(patients[i] for i in rng.permutation(len(patients))[:count])
    sides: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    for item in parts["train"]:
        sides[str(item.get("patient", item["case"])) in inner].append(item)
    if not sides[True] or not sides[False]:
        raise DataError(f"--inner_fraction {fraction}: {len(classes)} training patients are too few to split")
    return {**parts, "train": sides[False], "inner": sides[True]}


def class_counts(items: Sequence[Mapping[str, Any]], num_classes: int, key: str = "label") -> list[int]:
    """Samples of each class, for example for `monai_ext.losses.LDAMLoss`.

    Args:
        items: data items with an integer class from 0 under ``key``.
        num_classes: number of classes, each with a sample or more.
        key: key of the class in an item.

    Raises:
        DataError: when a label is missing, no integer or out of range, or a class has no sample.
    """
    counts = [0] * num_classes
    for item in items:
        label = item.get(key)
        if not isinstance(label, int | np.integer) or isinstance(label, bool) or not 0 <= label < num_classes:
            raise DataError(
                f"class_counts: {item.get('case', 'an item')!r} has {key} {label!r}, "
                f"expected an integer from 0 to {num_classes - 1}"
            )
        counts[int(label)] += 1
    empty = [label for label, count in enumerate(counts) if count == 0]
    if empty:
        raise DataError(f"class_counts: no sample of class {empty} among {len(items)} items (counts {counts})")
    return counts
