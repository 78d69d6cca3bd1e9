"""The tables of extracted slices: one row per slice, with the labels of its volume."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from monai_ext.ct_rate.indexing import VolumeIndex
from monai_ext.ct_rate.labels import LABELS
from monai_ext.ct_rate.volume import SPLITS, Volume, order, parse_name
from monai_ext.data.left_out import not_used, refuse_or_leave_out
from monai_ext.data.problems import Problem
from monai_ext.data.stamps import stamp_of
from monai_ext.errors import ConfigError, DataError
from monai_ext.io import read_csv, read_json, write_csv

COLUMNS = (
    *("slice_id", "volume_name", "slice_index", "relative_position", "file_path"),
    *("slice_shape", "original_volume_shape", "split"),
)
READING = "reading"  # a column that older tables lack
SETTINGS = "extraction.json"


def tables_of(output: Path) -> list[Path]:
    """The tables that exist below ``output``."""
    tables = [output / "splits" / f"{split}_slices.csv" for split in SPLITS]
    return [table for table in tables if table.is_file()]


def write_tables(output: Path, done: Sequence[tuple[Volume, dict[str, Any]]]) -> None:
    """Write ``splits/{train,valid}_slices.csv`` of volumes and the records of their slices; paths from ``output``."""
    for split in SPLITS:
        rows = [row for volume, record in done if volume.split == split for row in _rows(volume, record)]
        file = output / "splits" / f"{split}_slices.csv"
        if rows or file.is_file():
            write_csv(file, rows, [*COLUMNS, READING, *LABELS])


def _rows(volume: Volume, record: dict[str, Any]) -> list[dict[str, Any]]:
    size = record["made_from"]["size"]
    labels = dict(zip(LABELS, volume.labels or (), strict=False))
    return [
        {
            "slice_id": entry["file"].removesuffix(".npy"),
            "volume_name": volume.name,
            "slice_index": entry["index"],
            "relative_position": entry["relative_position"],
            "file_path": f"slices/{volume.split}/{entry['file']}",
            "slice_shape": f"({size}, {size})",
            "original_volume_shape": str(tuple(record["shape"])),
            "split": volume.split,
            READING: record["reading"],
            **labels,
        }
        for entry in record["slices"]
    ]


def extracted_slices(
    slices_dir: str | Path,
    num_slices: int | None = None,
    size: int | None = None,
    clahe: bool | None = None,
    on_bad_volume: str = "error",
) -> VolumeIndex:
    """The volumes of which slices were extracted; the volumes' own files aren't needed any more.

    Files beside the slices that no table lists are notes among the problems.

    Args:
        slices_dir: the ``output`` of `extract_slices`.
        num_slices: slices per volume that the extraction must have had; None for any.
        size: edge length in pixels that the extraction must have had; None for any.
        clahe: whether the extraction must have raised local contrast; None for either.
        on_bad_volume: "error", or "skip" to leave out and report volumes without their first slice.

    Raises:
        ConfigError: for slices extracted with other settings, or another ``on_bad_volume``.
        DataError: for a table or slice that is missing, or a table that is damaged or contradicts itself.
    """
    root = Path(slices_dir)
    tables = tables_of(root)
    if not tables:
        raise DataError(
            "has no splits/train_slices.csv or splits/valid_slices.csv; make them by "
            "`python -m monai_ext extract-slices --dataset_dir DIR --output DIR`",
            slices_dir,
        )
    made = read_json(root / SETTINGS)
    wanted = {"num_slices": num_slices, "size": size, "clahe": clahe}
    others = {name: made.get(name) for name, value in wanted.items() if value is not None and made.get(name) != value}
    if others:
        given = ", ".join(f"{name}={wanted[name]}" for name in others)
        had = ", ".join(f"{name}={value}" for name, value in others.items())
        raise ConfigError(f"{slices_dir}: its slices were extracted with {had}, not {given}; extract them again")
    problems: list[Problem] = []
    listed: set[str] = set()
    found = [volume for table in tables for volume in _read_table(table, root, problems, listed)]
    problems += _strays(listed, root)
    refuse_or_leave_out(problems, on_bad_volume, "on_bad_volume", "ct_rate_multilabel")
    if not found:
        raise DataError("lists no slices", tables[0])
    return VolumeIndex(sorted(found, key=lambda volume: order(volume.name)), problems)


def _strays(listed: set[str], root: Path) -> list[Problem]:
    """Notes on what lies in the folders of slices and isn't one that is listed; no file of them is looked at."""
    folders = filter(os.path.isdir, sorted({os.path.dirname(path) for path in listed}))
    found = [os.path.join(folder, name) for folder in folders for name in sorted(os.listdir(folder)) if name[0] != "."]
    return not_used((path for path in found if path not in listed), lambda _: "in no table of slices", root)


def _read_table(table: Path, root: Path, problems: list[Problem], listed: set[str]) -> list[Volume]:
    labels: dict[str, tuple[int, ...]] = {}
    slices: dict[str, list[tuple[int, str]]] = {}
    splits: dict[str, str] = {}
    readings: dict[str, str] = {}
    for row in read_csv(table, [*COLUMNS, *LABELS], unique="slice_id"):
        name = row["volume_name"]
        try:
            values = tuple({"0": 0, "1": 1}[row[label]] for label in LABELS)
            position = int(row["slice_index"])
        except (KeyError, ValueError):
            raise DataError(f"{row['slice_id']!r} has labels other than 0 and 1, or no slice_index", table) from None
        if labels.setdefault(name, values) != values:
            raise DataError(f"the slices of {name!r} have different labels", table)
        splits[name] = row["split"]
        readings[name] = row.get(READING, "")
        slices.setdefault(name, []).append((position, str(root / row["file_path"])))
        listed.add(slices[name][-1][1])
    found = []
    for name, members in slices.items():
        parsed = parse_name(name)
        if parsed is None or splits[name] not in SPLITS:
            raise DataError(
                f"{name!r} is not named as CT-RATE's volumes are, or its split isn't one of {SPLITS}", table
            )
        members.sort()
        try:
            stamp = stamp_of(path for _, path in members)
        except DataError as error:
            problem = Problem.of(error)
            problems.append(replace(problem, message=f"is listed but {problem.message}; extract the slices again"))
            continue
        volume = Volume(name, splits[name], parsed.patient, labels[name], stamp=stamp, slices=tuple(members))
        found.append(replace(volume, reading=readings[name]))
    return found
