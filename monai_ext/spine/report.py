"""The static HTML report of a batch of series."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai_ext.io import write_text
from monai_ext.pages.document import Block, Picture, Section, Table, Text, cell, pairs, render

_HEADER = ("series", "result", "lesions", "volume (mm³)", "slices with lesions", "why, or what else")


def write_batch_report(output_dir: str | Path, report: Mapping[str, Any]) -> Path:
    """Write ``report.html``: one file without external parts.

    Args:
        output_dir: folder of the batch, with previews under ``<patient>/<series>/previews``.
        report: content of its ``report.json`` (see `monai_ext.spine.CascadeBatch`).

    Raises:
        WriteError: when the file can't be written.
    """
    folder = Path(output_dir)
    problems = [(problem["path"], problem["message"]) for problem in report["problems"]]
    sections = [
        Section("Summary", [Text(_summary(report["counts"]))]),
        Section("Series", [_series_table(report)]),
        Section(
            "Other files that were not used",
            [Table(("file or folder", "why"), problems) if problems else Text(["There are none."])],
        ),
        Section("Previews", _previews(folder, report)),
        Section("Settings", [pairs(report["settings"], ("setting", "value"))]),
        Section("Weights", [pairs(report["stages"], ("stage", "file"))]),
    ]
    title = f"{report['bundle']}: {report['counts']['series']} series"
    times = f"{report['dataset_dir']}, {report['started']} to {report['finished']}"
    return write_text(folder / "report.html", render(title, times, report["status"], sections))


def _summary(counts: Mapping[str, int]) -> list[str]:
    return [
        "Not for clinical use: a research tool, not a medical device. Every mask has to be checked by an expert.",
        f"{counts['admitted']} of {counts['series']} series were admitted, {counts['refused']} refused by a stage, "
        f"{counts['broken']} broken.",
        f"Other files or folders that were left out, though they may hold images: {counts['problems']}.",
    ]


def _series_table(report: Mapping[str, Any]) -> Block:
    rows = [
        (
            f"{one['patient']}/{one['series']}",
            one["status"],
            one.get("lesion_count"),
            _volume(one.get("lesion_volume_mm3")),
            ", ".join(map(str, one.get("lesion_slices", []))),
            "; ".join(filter(None, [one["reason"], *one.get("notes", [])])),
        )
        for one in report["series"]
    ]
    note = "Slices are numbered from 0 along the slice axis of the file, as in the masks."
    return Table(_HEADER, rows, note=note) if rows else Text(["There is none."])


def _volume(volume: float | None) -> str | None:
    return None if volume is None else f"{volume:.1f}"


def _previews(folder: Path, report: Mapping[str, Any]) -> list[Block]:
    """One preview of each admitted series: the middle one of those with a lesion, else of all."""
    pictures: list[Block] = []
    for one in (series for series in report["series"] if series["status"] == "admitted"):
        files = sorted((folder / one["patient"] / one["series"] / "previews").glob("*.png"))
        if not files:
            continue
        with_lesion = [file for file in files if int(file.stem.rpartition("_")[2]) in one.get("lesion_slices", [])]
        file = (with_lesion or files)[len(with_lesion or files) // 2]
        found = f"{cell(one['lesion_count'])} lesions in the series"
        pictures.append(
            Picture(file.read_bytes(), f"{one['patient']}/{one['series']}, {file.stem.replace('_', ' ')}; {found}")
        )
    return pictures or [Text(["There are none."])]
