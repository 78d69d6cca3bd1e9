"""Training and validation sets of a cross-validation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai_ext.brats.grades import COLUMNS, read_grades
from monai_ext.brats.layouts import data_root
from monai_ext.brats.names import CLASS_NAMES
from monai_ext.brats.subjects import find_subjects
from monai_ext.data.splits import Splits, grouped_stratified_folds, with_inner
from monai_ext.errors import ConfigError, DataError


def splits(
    dataset_dir: str | Path,
    fold: int,
    modality: str = "flair",
    seed: int = 42,
    num_folds: int = 5,
    inner_fraction: float = 0.0,
) -> Splits[dict[str, Any]]:
    """The subjects of a fold, sorted by id: ``{"train": [...], "val": [...]}``; ``left_out`` has what isn't used.

    The lists ``splits/fold_<k>_{train,val}.csv`` (``patient_id,class``) in the dataset are used where they exist;
    else the folds are stratified by class and grouped by patient, the same for the same subjects and ``seed``.

    Args:
        dataset_dir: see `find_subjects`.
        fold: from 1 to ``num_folds``.
        modality: see `find_subjects`.
        seed: of the folds, where the dataset has no lists.
        num_folds: number of folds, at least 2.
        inner_fraction: of the training patients, a third part "inner", see `monai_ext.data.with_inner`; 0 for none.

    Raises:
        ConfigError: for an unknown modality, a fold or fraction out of range.
        DataError: see `find_subjects`; for lists that contradict the folder or each other, or folds that can't be made.
    """
    if isinstance(fold, bool) or not isinstance(fold, int) or not 1 <= fold <= num_folds:
        raise ConfigError(f"splits: fold must be an integer from 1 to {num_folds}, got {fold!r}")
    items = find_subjects(dataset_dir, modality)
    listed = listed_fold(dataset_dir, fold, items)
    left_out = items.left_out
    if listed is not None:
        parts = {side: [item for item in items if item["case"] in listed[side]] for side in ("train", "val")}
        without = [item["case"] for item in items if not any(item["case"] in cases for cases in listed.values())]
        left_out += [f"{case}: in no list of fold {fold}" for case in without]
    else:
        groups, labels = [item["patient"] for item in items], [item["label"] for item in items]
        train, val = grouped_stratified_folds(groups, labels, num_folds, seed)[fold - 1]
        parts = {"train": [items[i] for i in train], "val": [items[i] for i in val]}
    found = Splits(with_inner(parts, inner_fraction, seed))
    found.left_out = left_out
    return found


def fold_items(
    dataset_dir: str | Path,
    fold: int,
    section: str,
    modality: str = "flair",
    seed: int = 42,
    num_folds: int = 5,
) -> list[dict[str, Any]]:
    """The training or validation set of `splits`.

    Args:
        dataset_dir: see `splits`.
        fold: see `splits`.
        section: "train" or "val".
        modality: see `splits`.
        seed: see `splits`.
        num_folds: see `splits`.

    Raises:
        ConfigError: see `splits`; for another section.
        DataError: see `splits`.
    """
    if section not in ("train", "val"):
        raise ConfigError(f"fold_items: section must be 'train' or 'val', got {section!r}")
    return splits(dataset_dir, fold, modality, seed, num_folds)[section]


def listed_fold(dataset_dir: str | Path, fold: int, items: Sequence[dict[str, Any]]) -> dict[str, set[str]] | None:
    """Subjects listed for training and validation set of a fold, or None when the dataset has no lists for it.

    Raises:
        DataError: for lists that contradict ``items`` or each other, or one list without the other.
    """
    folders = [folder / "splits" for folder in (Path(dataset_dir), data_root(dataset_dir))]
    folder = next((folder for folder in folders if folder.is_dir()), folders[0])
    files = {section: folder / f"fold_{fold}_{section}.csv" for section in ("train", "val")}
    present = [section for section, file in files.items() if file.is_file()]
    if not present:
        return None
    if len(present) == 1:
        raise DataError(f"only the {present[0]} list of fold {fold} exists; give both, or none", folder)
    labels = {item["case"]: item["label"] for item in items}
    patients = {item["case"]: item["patient"] for item in items}
    listed = {section: read_grades(file).labels for section, file in files.items()}
    for section, classes in listed.items():
        if not classes:
            raise DataError(f"lists no patient; it needs {','.join(COLUMNS)}", files[section])
        for case, label in classes.items():
            if case not in labels:
                raise DataError(f"patient {case!r} is not in the dataset", files[section])
            if label != labels[case]:
                names = CLASS_NAMES[label], CLASS_NAMES[labels[case]]
                raise DataError(f"patient {case!r} is {names[0]} here but {names[1]} in the dataset", files[section])
    shared = sorted({patients[case] for case in listed["train"]} & {patients[case] for case in listed["val"]})
    if shared:
        raise DataError(f"{len(shared)} patients are in both lists of fold {fold}, e.g. {shared[0]!r}", folder)
    return {section: set(classes) for section, classes in listed.items()}
