"""Training, validation and test sets, split by patient."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from monai_ext.ct_rate.indexing import VolumeIndex
from monai_ext.ct_rate.volume import Volume
from monai_ext.data.splits import Splits
from monai_ext.errors import ConfigError, DataError


def splits(
    index: VolumeIndex,
    fold: int = 1,
    num_folds: int = 5,
    val_fraction: float | None = None,
    test: str = "valid",
    test_fraction: float = 0.15,
    subset: float = 1.0,
    seed: int = 42,
    inner_fraction: float = 0.0,
) -> Splits[Volume]:
    """Split by patient: all scans and reconstructions of a patient are in one set.

    Rare labels are spread evenly over the sets. The split depends on the patients only, not on their order.

    Args:
        index: the volumes, all with labels.
        fold: from 1 to ``num_folds``; "val" is this fold of the patients outside the test set, "train" all others.
        num_folds: number of folds, at least 2.
        val_fraction: fraction (between 0 and 1) of these patients to validate on, drawn by ``seed``; None for folds.
        test: "valid" (the test set is CT-RATE's own validation set; none without it), or "random" (``test_fraction`` of
            all patients of CT-RATE's two sets together).
        test_fraction: for "random", fraction of the patients, from 0 (no test set) to below 1.
        subset: fraction of the patients to use at all, above 0 to 1; a larger one contains a smaller one.
        seed: of all random draws, at least 0.
        inner_fraction: fraction of the training patients for a set "inner" to choose an epoch on, from 0 (none) to
            below 1; it changes no other draw.

    Returns:
        "train", "val" and, where there is one, "test" → volumes.

    Raises:
        ConfigError: for an argument out of range.
        DataError: for too few patients, or a volume without labels.
    """
    _check_arguments(fold, num_folds, val_fraction, test, test_fraction, subset, inner_fraction)
    unlabelled = next((volume for volume in index.volumes if volume.labels is None), None)
    if unlabelled is not None:
        raise DataError("has no labels, so it can't be in a split", unlabelled.path or unlabelled.name)
    patients: dict[str, list[Volume]] = defaultdict(list)
    for volume in index.volumes:
        patients[volume.patient].append(volume)
    rng = np.random.default_rng(seed)
    names = sorted(patients)
    names = sorted(np.array(names)[rng.permutation(len(names))[: max(1, round(subset * len(names)))]].tolist())
    labels = {name: np.max([volume.labels or () for volume in patients[name]], axis=0) for name in names}

    if test == "valid":
        tested = {name for name in names if patients[name][0].split == "valid"}
    else:
        tested = set(_draw(names, labels, round(test_fraction * len(names)), rng))
    rest = [name for name in names if name not in tested]
    if val_fraction is not None:
        val = set(_draw(rest, labels, max(1, round(val_fraction * len(rest))), rng))
    else:
        val = set(_fold(rest, labels, fold, num_folds, rng))
    train = set(rest) - val
    if not train or not val:
        raise DataError(f"splits: {len(rest)} patients are left to train and validate on, too few; use more data")
    inner = set(_draw(sorted(train), labels, round(inner_fraction * len(train)), rng))
    train -= inner
    if inner_fraction and not (train and inner):
        raise DataError(
            f"splits: {len(train | inner)} training patients are too few for inner_fraction {inner_fraction}"
        )
    parts = {"train": train, **({"inner": inner} if inner else {}), "val": val, **({"test": tested} if tested else {})}
    found: Splits[Volume] = Splits(
        {part: [v for v in index.volumes if v.patient in members] for part, members in parts.items()}
    )
    found.left_out = [f"{problem.path}: {problem.message}" for problem in index.problems]
    if len(patients) > len(names):
        found.left_out += [f"{len(patients) - len(names)} patients by subset {subset:g}"]
    return found


def _by_rarity(names: Sequence[str], labels: Mapping[str, np.ndarray], rng: np.random.Generator) -> list[str]:
    """Patients with the rarest label first, then those with the second rarest of the others, and so on.

    Neighbours in this order have about the same labels, so that dealing them out in turns spreads every label.
    """
    shuffled = [names[i] for i in rng.permutation(len(names))]
    counts = np.sum([labels[name] for name in names], axis=0)
    rarest_first = np.argsort(counts, kind="stable")
    return sorted(shuffled, key=lambda name: tuple(-labels[name][rarest_first]))


def _draw(names: Sequence[str], labels: Mapping[str, np.ndarray], count: int, rng: np.random.Generator) -> list[str]:
    if count < 1 or not names:
        return []
    strata = np.array_split(np.array(_by_rarity(names, labels, rng)), min(count, len(names)))
    return [str(rng.choice(stratum)) for stratum in strata]


def _fold(
    names: Sequence[str], labels: Mapping[str, np.ndarray], fold: int, num_folds: int, rng: np.random.Generator
) -> list[str]:
    if len(names) < num_folds:
        raise DataError(
            f"splits: {len(names)} patients are too few for {num_folds} folds; use fewer folds or more data"
        )
    ordered = _by_rarity(names, labels, rng)
    rounds = [ordered[start : start + num_folds] for start in range(0, len(ordered), num_folds)]
    chosen = []
    for group in rounds:
        # One patient of each round to each fold, in a new order each time.
        turns = rng.permutation(num_folds)
        chosen += [name for name, turn in zip(group, turns, strict=False) if turn == fold - 1]
    return chosen


def _check_arguments(
    fold: int,
    num_folds: int,
    val_fraction: float | None,
    test: str,
    test_fraction: float,
    subset: float,
    inner_fraction: float,
) -> None:
    if test not in ("valid", "random"):
        raise ConfigError(f"splits: test must be 'valid' or 'random', got {test!r}")
    if isinstance(fold, bool) or not isinstance(fold, int) or not 1 <= fold <= num_folds or num_folds < 2:
        raise ConfigError(f"splits: fold must be an integer from 1 to num_folds >= 2, got {fold!r} of {num_folds}")
    if not 0 < subset <= 1 or not 0 <= test_fraction < 1 or not 0 <= inner_fraction < 1:
        raise ConfigError(
            "splits: subset must be above 0 and at most 1, test_fraction from 0 to below 1, inner_fraction too, "
            f"got {subset}, {test_fraction} and {inner_fraction}"
        )
    if val_fraction is not None and (not 0 < val_fraction < 1 or fold != 1):
        raise ConfigError(
            f"splits: val_fraction must be between 0 and 1, and there is only fold 1 of it, "
            f"got {val_fraction} and fold {fold}"
        )
