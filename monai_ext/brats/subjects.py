"""Labelled subjects as items of training."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai_ext.brats.layouts import Layout, find_layout
from monai_ext.brats.names import channels_of
from monai_ext.brats.unused import unused_in
from monai_ext.data.left_out import Found
from monai_ext.data.patients import patient_of_case
from monai_ext.data.problems import Problem
from monai_ext.data.stamps import stamps_of
from monai_ext.errors import DataError


def find_subjects(dataset_dir: str | Path, modality: str = "flair") -> Found[dict[str, Any]]:
    """All labelled subjects, sorted by id; items as the package's docstring lists them, ``left_out`` what isn't used.

    Layouts, in ``dataset_dir`` or in the folder of a publication in it: ``{HGG,LGG}/<id>/`` (BraTS 2018 and 2019); or
    one CSV, ``patient_id,class`` or BraTS' ``name_mapping.csv``, beside ``<id>/`` or the volumes themselves (BraTS 2020
    to 2024, BIDS). Names of the volumes: `monai_ext.brats.names.name_of`; one without a modality, ``<id>``, is taken as
    prepared. Formats: `monai_ext.data.volumes.SUFFIXES`.

    Args:
        dataset_dir: folder in one of the layouts above.
        modality: "t1", "t1ce", "t2", "flair", or "all" for four channels.

    Raises:
        ConfigError: for an unknown modality.
        DataError: for a missing folder (saying how to get the data), a missing or ambiguous file, a subject in both
            classes, an unknown class.
    """
    layout, items, problems = scan_subjects(dataset_dir, modality)
    if problems:
        more = f" (and {len(problems) - 1} more: run `python -m monai_ext check brats_resnet50`)"
        raise DataError(problems[0].message + (more if len(problems) > 1 else ""), problems[0].path)
    return Found(items, unused_in(layout))


def scan_subjects(dataset_dir: str | Path, modality: str) -> tuple[Layout, list[dict[str, Any]], list[Problem]]:
    """The layout, an item of each usable subject, and the problems of the others.

    Raises:
        ConfigError: for an unknown modality.
        DataError: see `monai_ext.brats.layouts.find_layout`.
    """
    channels, layout = channels_of(modality), find_layout(dataset_dir)
    items: dict[str, dict[str, Any]] = {}
    owners: dict[tuple[int, int], str] = {}
    problems: list[Problem] = []
    for subject in layout.subjects:
        case, folder = subject.case, subject.volumes.folder
        try:
            if case in items:
                raise DataError(f"subject {case!r} lies in both classes; remove it from one", folder)
            files = subject.volumes.choose(case, channels)
            for file in (os.stat(path) for path in files):
                if (other := owners.setdefault((file.st_dev, file.st_ino), case)) != case:
                    message = f"subject {case!r} is a link to the files of {other!r}; remove one"
                    raise DataError(message, folder, "same-file")
            items[case] = {**item_of(case, files), "label": subject.label, "patient": subject.patient}
        except DataError as error:
            problems.append(Problem.of(error, folder))
    return layout, [items[case] for case in sorted(items)], problems


def item_of(case: str, files: Sequence[Path]) -> dict[str, Any]:
    """The item of a case without a label."""
    absolute = [os.path.abspath(path) for path in files]
    return {
        "case": case,
        "patient": patient_of_case(case),
        "image": absolute if len(absolute) > 1 else absolute[0],
        "stamp": stamps_of(*absolute),
    }


def channel_files(item: dict[str, Any]) -> list[str]:
    """Paths of the channels of an item."""
    image = item["image"]
    return [image] if isinstance(image, str) else image
