"""Check of a labelled dataset: all problems at once, before a run fails at the first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai_ext.brats.layouts import Subject
from monai_ext.brats.names import SEG
from monai_ext.brats.split import listed_fold
from monai_ext.brats.subjects import channel_files, scan_subjects
from monai_ext.brats.unused import unused_in
from monai_ext.data.checks import check_volumes, run_checks
from monai_ext.data.patients import patient_problems
from monai_ext.data.problems import Problem
from monai_ext.data.splits import grouped_stratified_folds
from monai_ext.errors import DataError
from monai_ext.places import Place

WHO_IS_WHO = "add a column 'patient' to the CSV, or a CSV with the columns patient_id,patient beside HGG and LGG"


def check(
    dataset_dir: str | Path, modality: str = "all", workers: int | Place | None = None, num_folds: int = 5
) -> list[Problem]:
    """Open every file and list all problems of the dataset; an empty list means that none was found.

    Args:
        dataset_dir: see `find_subjects`.
        modality: see `find_subjects`; by default the files of all four are opened.
        workers: threads, or a place such as `monai_ext.places.Dask`; default one per CPU, at most 8.
        num_folds: folds that the subjects must be enough for.

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
    cases = [{"images": channel_files(item), **_segmentation(subjects[item["case"]])} for item in items]
    problems += run_checks(check_volumes, cases, workers)
    problems += _fold_problems(dataset_dir, items, num_folds)
    problems += patient_problems(dataset_dir, {item["case"]: item["patient"] for item in items}, WHO_IS_WHO)
    return problems + unused_in(layout)


def _segmentation(subject: Subject) -> dict[str, Any]:
    found = subject.volumes.of_case(subject.case).get(SEG)
    if not found:
        return {"seg": None}
    # 3 is the enhancing tumour from 2023 on (4 before), and 4 the resection cavity from 2024 on
    later = subject.case.lower().startswith(("brats-", "sub-"))
    return {"seg": str(found[0]), "seg_values": (0, 1, 2, 3, 4) if later else (0, 1, 2, 4)}


def _fold_problems(dataset_dir: str | Path, items: Sequence[dict[str, Any]], num_folds: int) -> list[Problem]:
    problems = []
    for fold in range(1, num_folds + 1):
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
        groups, labels = [item["patient"] for item in items], [item["label"] for item in items]
        grouped_stratified_folds(groups, labels, num_folds)
    except DataError as error:
        problems.append(Problem(str(dataset_dir), str(error), "warning", "few-cases"))
    return problems
