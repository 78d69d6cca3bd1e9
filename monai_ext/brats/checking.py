"""Check of a labelled dataset: all problems at once, before a run fails at the first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from monai_ext.brats.layouts import Layout, Subject, listed_in
from monai_ext.brats.names import MODALITIES, PLAIN, SEG
from monai_ext.brats.split import listed_fold
from monai_ext.brats.subjects import files_of, scan_subjects
from monai_ext.data.checks import check_volumes, run_checks
from monai_ext.data.patients import patient_problems
from monai_ext.data.problems import Problem
from monai_ext.data.splits import grouped_stratified_folds
from monai_ext.data.volumes import volume_stem
from monai_ext.errors import DataError
from monai_ext.places import Place

WHO_IS_WHO = "add a column 'patient' to the CSV, or a CSV with the columns patient_id,patient beside HGG and LGG"


def check(dataset_dir: str | Path, modality: str = "all", workers: int | Place | None = None) -> list[Problem]:
    """Open every file and list all problems of the dataset; an empty list means that none was found.

    Args:
        dataset_dir: see `find_subjects`.
        modality: see `find_subjects`; by default the files of all four are opened.
        workers: threads, or a place such as `monai_ext.places.Dask`; default one per CPU, at most 8.

    Returns:
        The problems: "error" where a run would fail or learn nonsense, else "warning"; "note" for files that are not
        used and for the patients with several cases.

    Raises:
        ConfigError: for an unknown modality.
    """
    try:
        layout, items, problems = scan_subjects(dataset_dir, modality)
    except DataError as error:
        return [Problem.of(error, dataset_dir)]
    subjects = {subject.case: subject for subject in layout.subjects}
    cases = [{"images": files_of(item), **_segmentation(subjects[item["case"]])} for item in items]
    problems += run_checks(check_volumes, cases, workers)
    problems += _fold_problems(dataset_dir, items)
    problems += patient_problems(dataset_dir, {item["case"]: item["patient"] for item in items}, WHO_IS_WHO)
    return problems + _not_used(layout)


def _segmentation(subject: Subject) -> dict[str, Any]:
    found = subject.volumes.of_case(subject.case).get(SEG)
    if not found:
        return {"seg": None}
    # 3 is the enhancing tumour from 2023 on (4 before), and 4 the resection cavity from 2024 on
    later = subject.case.lower().startswith(("brats-", "sub-"))
    return {"seg": str(found[0]), "seg_values": (0, 1, 2, 3, 4) if later else (0, 1, 2, 4)}


def _fold_problems(dataset_dir: str | Path, items: Sequence[dict[str, Any]]) -> list[Problem]:
    problems = []
    for fold in range(1, 6):
        try:
            listed = listed_fold(dataset_dir, fold, items)
        except DataError as error:
            problems.append(Problem.of(error, dataset_dir))
            continue
        for section, members in (listed or {}).items():
            if len({item["label"] for item in items if item["case"] in members}) == 1:
                severity = "error" if section == "train" else "warning"
                problems.append(
                    Problem(str(dataset_dir), f"fold {fold}, {section}: one class only", severity, "few-cases")
                )
    try:
        grouped_stratified_folds([item["patient"] for item in items], [item["label"] for item in items])
    except DataError as error:
        problems.append(Problem(str(dataset_dir), str(error), "warning", "few-cases"))
    return problems


def _not_used(layout: Layout) -> list[Problem]:
    """A note for each folder with files that aren't read; a warning for volumes whose class nothing tells."""
    members: dict[Path, list[Subject]] = defaultdict(list)
    for subject in layout.subjects:
        members[subject.volumes.folder].append(subject)
    problems, unlisted = [], list(layout.unlisted)
    for folder, subjects in members.items():
        used = {path for subject in subjects for path in _used(subject)}
        left = [path for path in subjects[0].volumes.files if path not in used]
        if folder == layout.root:  # which holds tables and licences, too
            unlisted += [path for path in left if volume_stem(path) is not None]
        elif left := [path for path in left if not _describes(path, used)]:
            problems.append(_note(folder, left))
    if layout.table is None:
        for folder in {folder.parent for folder in members}:
            if loose := [path for path in listed_in(folder) if path.is_file() and volume_stem(path) is not None]:
                problems.append(_note(folder, loose))
    if unlisted:
        where = f"have no row in {layout.table.name}" if layout.table else "aren't in the folder of a class"
        message = f"{len(unlisted)} subjects or volumes {where}: {_names(unlisted)}"
        files, step = tuple(map(str, unlisted)), "tell their class, or remove them"
        problems.append(Problem(str(layout.table or layout.root), message, "warning", "not-used", files, step))
    return problems


def _describes(path: Path, volumes: Iterable[Path]) -> bool:
    """Whether a file is a header or sidecar of a volume, which has its name up to the suffix."""
    stems = {volume_stem(volume) for volume in volumes}
    return volume_stem(path) is None and any(path.name.startswith(f"{stem}.") for stem in stems)


def _used(subject: Subject) -> Iterable[Path]:
    """One file of each modality, the segmentation; a plain one where there is no other."""
    found = subject.volumes.of_case(subject.case)
    kinds = [kind for kind in MODALITIES if kind in found] or [PLAIN]
    return [found[kind][0] for kind in (*kinds, SEG) if kind in found]


def _note(folder: Path, files: Sequence[Path]) -> Problem:
    message = f"{len(files)} files are not used: {_names(files)}"
    return Problem(str(folder), message, "note", "not-used", tuple(map(str, files)))


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(path.name for path in paths[:8]) + (" …" if len(paths) > 8 else "")
