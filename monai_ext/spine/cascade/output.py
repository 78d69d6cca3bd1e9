"""The folder of one series: written in full under another name, then put in its place at once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from monai_ext.errors import DataError
from monai_ext.io import TEMPORARY_SUFFIX, atomic_path, write_csv, write_json
from monai_ext.spine import Series, SeriesImage, write_dicom_seg, write_like
from monai_ext.spine.cascade.record import NOT_MADE, SeriesRecord
from monai_ext.spine.cascade.result import CascadeResult, Findings, file_slices
from monai_ext.system_errors import writing

DECISIONS = "decisions.json"
# Largest number of previews per series: those with most lesion and cord.
_PREVIEWS = 6


@dataclass(frozen=True)
class CascadeOutput:
    """Writer of one series' results: masks, decisions, and a choice of others.

    Args:
        folder: folder of the batch.
        previews: write images of slices with the outlines of the masks.
        intermediate: write the cord's probability, and a table of each stage's output per slice.
        dicom_seg: write the masks as DICOM segmentations too, where the series is DICOM.
    """

    folder: Path
    previews: bool = True
    intermediate: bool = False
    dicom_seg: bool = True

    def write(
        self,
        record: SeriesRecord,
        series: Series,
        image: SeriesImage | None = None,
        result: CascadeResult | None = None,
    ) -> Path:
        """Replace the results of an earlier run; of a series that wasn't admitted only the decisions are written.

        Args:
            record: the decisions; notes are added to it.
            series: the series.
            image: its voxels; None for one that can't be read.
            result: of the cascade; None for a series that can't be read.

        Returns:
            Folder of the series.

        Raises:
            WriteError: when something can't be written; the old folder then stays.
        """
        final = self.folder / record.patient / record.series
        with _replaced(final) as folder:
            if image is not None and result is not None:
                if result.findings is not None:
                    self._write_masks(folder, record, series, image, result.findings)
                if self.intermediate:
                    _write_tables(folder, result)
            write_json(folder / DECISIONS, asdict(record))
        return final

    def _write_masks(
        self, folder: Path, record: SeriesRecord, series: Series, image: SeriesImage, findings: Findings
    ) -> None:
        write_like(image, findings.lesion, folder / "lesion.nii.gz")
        write_like(image, findings.lesion_probability, folder / "lesion_prob.nii.gz")
        write_like(image, findings.cord, folder / "cord.nii.gz")
        if self.intermediate:
            write_like(image, findings.cord_probability, folder / "cord_prob.nii.gz")
        if self.dicom_seg and series.kind == "dicom":
            for segment, mask in (("lesion", findings.lesion), ("cord", findings.cord)):
                try:
                    write_dicom_seg(series, image, mask, folder / f"{segment}.dcm", segment)
                except DataError as error:
                    where = f"{error.path}: " if error.path else ""
                    record.notes.append(f"{segment}.dcm {NOT_MADE}: {str(error).removeprefix(where)}")
        if self.previews:
            _write_previews(folder / "previews", record.name, image, findings)


def prune(folder: Path, written: set[Path]) -> list[Path]:
    """Remove series of earlier runs that this one didn't write, and left-overs of killed runs; returns their paths."""
    stale = [path.parent for path in folder.glob(f"*/*/{DECISIONS}") if path.parent not in written]
    stale += [path for path in folder.glob(f"*/.*{TEMPORARY_SUFFIX}") if path not in stale]
    for path in stale:
        shutil.rmtree(path)
    for patient in {path.parent for path in stale} - {path.parent for path in written}:
        (patient / "summary.json").unlink(missing_ok=True)
        if not any(patient.iterdir()):
            patient.rmdir()
    return stale


@contextmanager
def _replaced(final: Path) -> Iterator[Path]:
    partial, old = (final.with_name(f".{final.name}.{kind}{TEMPORARY_SUFFIX}") for kind in ("new", "old"))
    try:
        with writing(final):
            for path in (partial, old):
                shutil.rmtree(path, ignore_errors=True)
            partial.mkdir(parents=True)
            yield partial
            if final.exists():
                os.replace(final, old)
            os.replace(partial, final)
    finally:
        if old.exists() and not final.exists():
            os.replace(old, final)
        for path in (partial, old):
            shutil.rmtree(path, ignore_errors=True)


def _write_tables(folder: Path, result: CascadeResult) -> None:
    for decision in result.decisions:
        if decision.table:
            write_csv(folder / f"slices_{decision.stage}.csv", [dict(row) for row in decision.table])


def _write_previews(folder: Path, name: str, image: SeriesImage, findings: Findings) -> None:
    from monai_ext.spine.overlay import overlay_figure

    cord, lesion = findings.cord, findings.lesion
    # A lesion's pixel counts more than all of the cord's.
    seen = cord.sum(axis=(1, 2)) + lesion.sum(axis=(1, 2)) * (cord[0].size + 1)
    best = [int(n) for n in np.argsort(-seen, kind="stable")[:_PREVIEWS] if seen[n] > 0]
    numbers, slices = file_slices(image), image.slices()[:, 0]
    for n in best:
        masks = {"cord": cord[n], "lesion": lesion[n]}
        title = f"{name}, slice {numbers[n]}"
        figure = overlay_figure(slices[n], masks, title, aspect=image.spacing[1] / image.spacing[2])
        with atomic_path(folder / f"slice_{numbers[n]:03d}.png") as temporary:
            figure.savefig(temporary, format="png", dpi=100)
