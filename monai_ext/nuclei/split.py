"""Training, validation and test sets of the nuclei of a dataset."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from monai_ext.data.splits import Splits, grouped_stratified_folds, with_inner
from monai_ext.errors import ConfigError, DataError
from monai_ext.nuclei.classes import ClassMap, class_names, label_of, warn_of_other_names
from monai_ext.nuclei.indexing import NucleiIndex
from monai_ext.nuclei.items import crops_of

MORE_DATA = "use fewer num_folds, more sample_percent, less test_fraction, or put the class into excluded_classes"


def splits(
    index: NucleiIndex,
    class_map: ClassMap,
    fold: int = 1,
    num_folds: int = 5,
    test_fraction: float = 0.15,
    seed: int = 42,
    sample_percent: float = 100.0,
    inner_fraction: float = 0.0,
) -> Splits[dict[str, Any]]:
    """Split by nucleus, or by patient where the class table names them; stratified by class.

    The crops of each set come in natural order of the sample ids.

    First the test set is drawn, then the rest is divided into folds: "val" is fold ``fold``, "train" all others. The
    split depends on the samples only, not on their order; samples whose class isn't in the map are left out.

    Args:
        index: the samples.
        class_map: the classes, see `monai_ext.nuclei.class_map`.
        fold: from 1 to ``num_folds``.
        num_folds: number of folds, at least 2.
        test_fraction: fraction of the nuclei for the test set, from 0 (none) to below 1. All folds have the same.
        seed: of all random draws, at least 0.
        sample_percent: percentage of the nuclei of each class to use at all, above 0 to 100, at least one nucleus.
        inner_fraction: of the training nuclei, a part "inner", see `monai_ext.data.with_inner`; 0 for none.

    Returns:
        "train", "val" and, with a ``test_fraction``, "test" → items as the package's docstring lists them.

    Raises:
        ConfigError: for an argument out of range.
        DataError: for a class with too few samples.
    """
    if isinstance(fold, bool) or not isinstance(fold, int) or not 1 <= fold <= num_folds:
        raise ConfigError(f"splits: fold must be an integer from 1 to {num_folds}, got {fold!r}")
    if not 0 <= test_fraction < 1 or not 0 < sample_percent <= 100:
        raise ConfigError(
            "splits: test_fraction must be from 0 to below 1 and sample_percent above 0 and at most 100, "
            f"got {test_fraction} and {sample_percent}"
        )
    warn_of_other_names(index, class_map)
    labels = {sample.case: label for sample in index.samples if (label := label_of(sample, class_map)) is not None}
    chosen = _draw(labels, sample_percent, seed)
    names = class_names(class_map)
    groups = {sample.case: sample.patient or sample.case for sample in index.samples}
    if test_fraction > 0:
        _require(chosen, labels, groups, names, num_folds + 1, f"a test set and {num_folds} folds")
    rest, test = _set_aside(chosen, labels, groups, test_fraction, seed)
    _require(rest, labels, groups, names, num_folds, f"{num_folds} folds beside the test set")
    train, val = grouped_stratified_folds(
        [groups[case] for case in rest], [labels[case] for case in rest], num_folds, seed
    )[fold - 1]
    parts = {"train": {rest[i] for i in train}, "val": {rest[i] for i in val}, **({"test": set(test)} if test else {})}
    found: Splits[dict[str, Any]] = Splits()
    for part, cases in parts.items():
        members = [sample for sample in index.samples if sample.case in cases]
        found[part] = [item for sample in members for item in crops_of(sample, labels[sample.case])]
    parts_found = Splits(with_inner(found, inner_fraction, seed))
    unnamed, drawn = len(index.samples) - len(labels), len(labels) - len(chosen)
    parts_found.left_out = [
        *(f"{problem.path}: {problem.message}" for problem in index.problems),
        *([f"{unnamed} nuclei of classes that aren't trained on"] if unnamed else []),
        *([f"{drawn} nuclei by sample_percent {sample_percent:g}"] if drawn else []),
    ]
    return parts_found


def _draw(labels: dict[str, int], percent: float, seed: int) -> list[str]:
    """The cases to use, sorted; a larger percentage contains a smaller one."""
    members: dict[int, list[str]] = defaultdict(list)
    for case in sorted(labels):
        members[labels[case]].append(case)
    drawn = []
    for label, cases in sorted(members.items()):
        order = np.random.default_rng([seed, label]).permutation(len(cases))
        count = max(1, round(len(cases) * percent / 100))
        drawn += [cases[i] for i in order[:count]]
    return sorted(drawn)


def _require(
    cases: Sequence[str],
    labels: dict[str, int],
    groups: dict[str, str],
    names: Sequence[str],
    least: int,
    purpose: str,
) -> None:
    for label, name in enumerate(names):
        members = [case for case in cases if labels[case] == label]
        count = len({groups[case] for case in members})
        if count < least:
            of = "" if count == len(members) else f" of {count} patients"
            raise DataError(
                f"splits: class {name!r} has {len(members)} samples{of}, too few for {purpose}; {MORE_DATA}"
            )


def _set_aside(
    cases: list[str], labels: dict[str, int], groups: dict[str, str], fraction: float, seed: int
) -> tuple[list[str], list[str]]:
    from sklearn.model_selection import train_test_split

    if fraction == 0:
        return cases, []
    if len({groups[case] for case in cases}) < len(cases):
        test = _patients_aside(cases, labels, groups, fraction, seed)
        return [case for case in cases if case not in test], sorted(test)
    try:
        rest, aside = train_test_split(
            cases, test_size=fraction, random_state=seed, stratify=[labels[case] for case in cases]
        )
    except ValueError as error:
        raise DataError(f"splits: {fraction:g} of {len(cases)} samples make no test set: {error}") from error
    return sorted(rest), sorted(aside)


def _patients_aside(
    cases: list[str], labels: dict[str, int], groups: dict[str, str], fraction: float, seed: int
) -> set[str]:
    """Whole patients, drawn one after the other as long as each brings the classes nearer to their goals."""
    count = np.bincount([labels[case] for case in cases])
    missing = fraction * count
    members: dict[str, list[str]] = defaultdict(list)
    for case in cases:
        members[groups[case]].append(case)
    order = sorted(members)
    test: set[str] = set()
    for number in np.random.default_rng(seed).permutation(len(order)):
        own = members[order[number]]
        gain = np.bincount([labels[case] for case in own], minlength=len(count))
        # each class weighs the same, however many samples it has
        if (((missing - gain) / count) ** 2).sum() < ((missing / count) ** 2).sum():
            test.update(own)
            missing = missing - gain
    if not test:
        raise DataError(f"splits: each patient has too many samples for a test_fraction of {fraction:g}; use more")
    return test
