"""BraTS 2018: subjects with their grade, cross-validation folds, unlabelled cases, and a check of everything.

Labels count from 0: LGG 0, HGG 1. Scanning opens no image; items are dicts with

- ``case``: subject id (or file stem),
- ``image``: absolute path of the volume, or a list of four in the order of `MODALITIES` for modality "all",
- ``label``: 0 or 1, absent when unknown,
- ``patient``: the subject id without the time point, for subjects with a label,
- ``stamp``: [[size in bytes, modification time in ns], ...] of the files, for caches.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai_ext.data.checks import check_volumes, run_checks
from monai_ext.data.problems import Problem
from monai_ext.data.splits import grouped_stratified_folds, with_inner
from monai_ext.data.volumes import SUFFIXES, files_of, volume_stem
from monai_ext.errors import ConfigError, DataError
from monai_ext.io import read_csv
from monai_ext.places import Place

CLASS_NAMES = ("LGG", "HGG")
MODALITIES = ("t1", "t1ce", "t2", "flair")
FOLDER = "MICCAI_BraTS_2018_Data_Training"
_MODALITY_NAME = re.compile(rf"(?P<case>.+)_(?P<modality>{'|'.join(MODALITIES)}|seg)")

HOW_TO_GET = (
    "to get BraTS 2018, register for the challenge at https://www.med.upenn.edu/sbia/brats2018/registration.html "
    "(CBICA); to try things out, make demo data with `python -m monai_ext demo-data brats_resnet50 --output DIR` and "
    "pass `--dataset_dir DIR`"
)


def find_subjects(dataset_dir: str | Path, modality: str = "flair") -> list[dict[str, Any]]:
    """All labelled subjects, sorted by id.

    Layouts: ``{HGG,LGG}/<id>/<id>_<modality>.nii[.gz]`` in ``dataset_dir`` or in ``MICCAI_BraTS_2018_Data_Training``
    below it; or one CSV with the columns ``patient_id`` and ``class`` beside ``<id>/<id>_<modality>``,
    ``<id>_<modality>`` or ``<id>`` (prepared volumes) as ``.nii.gz``, ``.nii`` or ``.npy``.

    Args:
        dataset_dir: folder in one of the layouts above.
        modality: "t1", "t1ce", "t2", "flair", or "all" for four channels.

    Raises:
        ConfigError: for an unknown modality.
        DataError: for a missing folder (saying how to get the data), a missing or ambiguous file, a subject in both
            classes, an unknown class.
    """
    items, problems = _scan(dataset_dir, modality)
    if problems:
        more = f" (and {len(problems) - 1} more: run `python -m monai_ext check brats_resnet50`)"
        raise DataError(problems[0].message + (more if len(problems) > 1 else ""), problems[0].path)
    return items


def splits(
    dataset_dir: str | Path,
    fold: int,
    modality: str = "flair",
    seed: int = 42,
    num_folds: int = 5,
    inner_fraction: float = 0.0,
) -> dict[str, list[dict[str, Any]]]:
    """The subjects of a fold, sorted by id: ``{"train": [...], "val": [...]}``.

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
    listed = _read_split(dataset_dir, fold, {item["case"]: item["label"] for item in items})
    if listed is not None:
        parts = {side: [item for item in items if item["case"] in listed[side]] for side in ("train", "val")}
        return with_inner(parts, inner_fraction, seed)
    groups, labels = [_patient(item["case"]) for item in items], [item["label"] for item in items]
    train, val = grouped_stratified_folds(groups, labels, num_folds, seed)[fold - 1]
    return with_inner({"train": [items[i] for i in train], "val": [items[i] for i in val]}, inner_fraction, seed)


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


def inference_items(inputs: str | Path | Sequence[str | Path], modality: str = "flair") -> list[dict[str, Any]]:
    """Cases to predict, each file once.

    Args:
        inputs: a BraTS folder as for `find_subjects` (labels kept), a folder of volumes or of subject folders, one
            volume, or a list of these. Of files named ``<id>_<modality>`` only those of ``modality`` are read.
        modality: see `find_subjects`.

    Raises:
        ConfigError: for an unknown modality.
        DataError: when nothing is found, or two files would have the same case name.
    """
    channels = _channels(modality)
    items: dict[str, dict[str, Any]] = {}
    seen: set[str] = set()
    for entry in [inputs] if isinstance(inputs, str | Path) else inputs:
        for item in _cases(Path(entry), channels, modality):
            real = os.path.realpath(_as_list(item["image"])[0])
            if real in seen:
                continue
            seen.add(real)
            if item["case"] in items:
                other = _as_list(items[item["case"]]["image"])[0]
                raise DataError(f"has the case name {item['case']!r} of {other}; rename one, or run them apart", real)
            items[item["case"]] = item
    if not items:
        raise DataError(f"no volume ({', '.join(SUFFIXES)}) of modality {modality!r} found in {inputs}")
    return [items[case] for case in sorted(items)]


def check(dataset_dir: str | Path, modality: str = "all", workers: int | Place | None = None) -> list[Problem]:
    """Open every file and list all problems of the dataset; an empty list means that none was found.

    Args:
        dataset_dir: see `find_subjects`.
        modality: see `find_subjects`; by default the files of all four are opened.
        workers: threads, or a place such as `monai_ext.places.Dask`; default one per CPU, at most 8.

    Returns:
        The problems: "error" where a run would fail or learn nonsense, else "warning".

    Raises:
        ConfigError: for an unknown modality.
    """
    try:
        items, problems = _scan(dataset_dir, modality)
    except DataError as error:
        return [Problem.of(error, dataset_dir)]
    cases = [{"images": _as_list(item["image"]), "seg": _segmentation(item)} for item in items]
    problems += run_checks(check_volumes, cases, workers)
    for fold in range(1, 6):
        try:
            listed = _read_split(dataset_dir, fold, {item["case"]: item["label"] for item in items})
        except DataError as error:
            problems.append(Problem.of(error, dataset_dir))
            continue
        for section, members in (listed or {}).items():
            if len({item["label"] for item in items if item["case"] in members}) == 1:
                severity = "error" if section == "train" else "warning"
                problems.append(Problem(str(dataset_dir), f"fold {fold}, {section}: one class only", severity))
    try:
        grouped_stratified_folds([_patient(item["case"]) for item in items], [item["label"] for item in items])
    except DataError as error:
        problems.append(Problem(str(dataset_dir), str(error), "warning"))
    return problems


def _channels(modality: str) -> tuple[str, ...]:
    if modality == "all":
        return MODALITIES
    if modality in MODALITIES:
        return (modality,)
    names = [*MODALITIES, "all"]
    near = difflib.get_close_matches(str(modality).lower(), names, 1, 0.4)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"modality must be one of {names}, got {modality!r}{hint}")


def _root(dataset_dir: str | Path) -> Path:
    root = Path(dataset_dir)
    if not root.is_dir():
        raise DataError(f"is not a folder; {HOW_TO_GET}", root)
    return root / FOLDER if (root / FOLDER).is_dir() else root


def _patient(case: str) -> str:
    # Brats18_<institution>_<patient>_<time point>: time points of one patient belong together
    match = re.fullmatch(r"(Brats\d+_.+_.+)_\d+", case)
    return match.group(1) if match else case


def _scan(dataset_dir: str | Path, modality: str) -> tuple[list[dict[str, Any]], list[Problem]]:
    channels, root = _channels(modality), _root(dataset_dir)
    items: dict[str, dict[str, Any]] = {}
    problems: list[Problem] = []
    for case, label, folder in _labelled(root):
        try:
            if case in items:
                raise DataError(f"subject {case!r} lies in both classes; remove it from one", folder)
            items[case] = {**_item(case, folder, channels), "label": label, "patient": _patient(case)}
        except DataError as error:
            problems.append(Problem.of(error, folder))
    if not items and not problems:
        raise DataError(f"holds no subjects; {HOW_TO_GET}", root)
    return [items[case] for case in sorted(items)], problems


def _labelled(root: Path) -> list[tuple[str, int, Path]]:
    """Id, label and folder of every subject of a labelled layout."""
    if any((root / name).is_dir() for name in CLASS_NAMES):
        return [
            (entry.name, label, entry)
            for label, name in enumerate(CLASS_NAMES)
            if (root / name).is_dir()
            for entry in _entries(root / name)
            if entry.is_dir()
        ]
    tables = [entry for entry in _entries(root) if entry.suffix.lower() == ".csv"]
    if len(tables) != 1:
        raise DataError(
            f"has no folder {' or '.join(CLASS_NAMES)}, and {len(tables)} CSV files where one is needed; {HOW_TO_GET}",
            root,
        )
    found = []
    for case, label in _read_classes(tables[0]).items():
        if case in (".", "..") or "/" in case or "\\" in case:
            raise DataError(f"patient_id {case!r} is not a plain name", tables[0])
        folder = root / case
        found.append((case, label, folder if folder.is_dir() else root))
    return found


def _entries(folder: Path) -> list[Path]:
    """Direct entries of a folder without hidden ones; nothing here descends, so links can't lead in circles."""
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def _read_classes(table: Path) -> dict[str, int]:
    classes = {}
    for row in read_csv(table, ["patient_id", "class"], unique="patient_id"):
        name = row["class"].upper()
        if name not in CLASS_NAMES:
            raise DataError(f"patient {row['patient_id']!r} has class {row['class']!r}, expected {CLASS_NAMES}", table)
        classes[row["patient_id"]] = CLASS_NAMES.index(name)
    return classes


def _item(case: str, folder: Path, channels: Sequence[str]) -> dict[str, Any]:
    paths = []
    for channel in channels:
        names = [f"{case}_{channel}"] + ([case] if len(channels) == 1 else [])
        # the modality's own file comes first; a plain <id> is a volume prepared beforehand
        found = next((files for name in names if (files := _existing(folder, name))), [])
        if len(found) > 1:
            raise DataError(f"{' and '.join(p.name for p in found)} both exist; remove one", folder)
        if not found:
            raise DataError(f"{names[0]}.nii.gz is missing", folder)
        paths.append(found[0])
    return _with_files(case, paths)


def _existing(folder: Path, name: str) -> list[Path]:
    return [path for suffix in SUFFIXES if (path := folder / f"{name}{suffix}").is_file()]


def _with_files(case: str, paths: Sequence[Path]) -> dict[str, Any]:
    absolute = [os.path.abspath(path) for path in paths]
    stats = [os.stat(file) for path in absolute for file in files_of(path)]
    return {
        "case": case,
        "patient": _patient(case),
        "image": absolute if len(absolute) > 1 else absolute[0],
        "stamp": [[stat.st_size, stat.st_mtime_ns] for stat in stats],
    }


def _as_list(image: str | list[str]) -> list[str]:
    return [image] if isinstance(image, str) else image


def _segmentation(item: dict[str, Any]) -> str | None:
    found = _existing(Path(_as_list(item["image"])[0]).parent, f"{item['case']}_seg")
    return str(found[0]) if found else None


def _read_split(dataset_dir: str | Path, fold: int, labels: dict[str, int]) -> dict[str, set[str]] | None:
    """Subjects listed for training and validation set of a fold, or None when the dataset has no lists for it."""
    folders = [folder / "splits" for folder in (Path(dataset_dir), _root(dataset_dir))]
    folder = next((folder for folder in folders if folder.is_dir()), folders[0])
    files = {section: folder / f"fold_{fold}_{section}.csv" for section in ("train", "val")}
    present = [section for section, file in files.items() if file.is_file()]
    if not present:
        return None
    if len(present) == 1:
        raise DataError(f"only the {present[0]} list of fold {fold} exists; give both, or none", folder)
    listed = {section: _read_classes(file) for section, file in files.items()}
    for section, classes in listed.items():
        if not classes:
            raise DataError("lists no patient", files[section])
        for case, label in classes.items():
            if case not in labels:
                raise DataError(f"patient {case!r} is not in the dataset", files[section])
            if label != labels[case]:
                names = CLASS_NAMES[label], CLASS_NAMES[labels[case]]
                raise DataError(f"patient {case!r} is {names[0]} here but {names[1]} in the dataset", files[section])
    shared = sorted({_patient(case) for case in listed["train"]} & {_patient(case) for case in listed["val"]})
    if shared:
        raise DataError(f"{len(shared)} patients are in both lists of fold {fold}, e.g. {shared[0]!r}", folder)
    return {section: set(classes) for section, classes in listed.items()}


def _cases(path: Path, channels: Sequence[str], modality: str) -> list[dict[str, Any]]:
    if path.is_file():
        stem = volume_stem(path)
        if stem is None:
            raise DataError(f"is not a volume this program reads; expected one of {', '.join(SUFFIXES)}", path)
        if len(channels) > 1:
            raise DataError(f"modality 'all' needs the folder with {', '.join(MODALITIES)}, not one file", path)
        named = _MODALITY_NAME.fullmatch(stem)
        return [_with_files(named["case"] if named else stem, [path])]
    if not path.is_dir():
        raise DataError("no such file or folder", path)
    root = _root(path)
    if _is_labelled(root):
        return find_subjects(path, modality)
    folders = [root, *(entry for entry in _entries(root) if entry.is_dir())]
    return [item for folder in folders for item in _cases_in(folder, channels)]


def _is_labelled(root: Path) -> bool:
    try:
        return bool(_labelled(root))
    except DataError:
        return False


def _cases_in(folder: Path, channels: Sequence[str]) -> list[dict[str, Any]]:
    """Cases made of the files directly in a folder: ``<id>_<modality>`` together, any other volume by itself."""
    found = {}
    for path in _entries(folder):
        stem = volume_stem(path)
        if stem is None or not path.is_file():
            continue
        named = _MODALITY_NAME.fullmatch(stem)
        if named and named["modality"] in channels and named["case"] not in found:
            found[named["case"]] = _item(named["case"], folder, channels)
        elif not named and len(channels) == 1:
            found[stem] = _with_files(stem, [path])
    return list(found.values())
