"""Prediction of all series of a folder with the cascade, and its report."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import monai_ext
from monai_ext import runs
from monai_ext.data.problems import Problem
from monai_ext.error_report import describe
from monai_ext.errors import ConfigError, IncompleteError, UserError, WriteError
from monai_ext.io import read_json, write_json
from monai_ext.spine import Series
from monai_ext.spine.cascade.cascade import SpineCascade
from monai_ext.spine.cascade.output import CascadeOutput, prune
from monai_ext.spine.cascade.record import ADMITTED, BROKEN, NOT_MADE, REFUSED, SeriesRecord, patient_summary
from monai_ext.spine.naming import one_line

logger = logging.getLogger("monai_ext")

BUNDLE = "spinal_cord_cascade"
REPORT = "report.json"


class CascadeBatch:
    """Predict all series of a folder, one after the other; whatever happens with one, the others are predicted.

    ``<output_dir>/<patient>/<series>`` has the masks and decisions of a series (see `CascadeOutput`), ``summary.json``
    beside it the lesions of the patient, ``report.json`` and ``report.html`` all series and, each with its reason, the
    files that are in none. An output folder belongs to
    one ``dataset_dir``: a second run replaces all results in it.

    Args:
        cascade: the stages, which are loaded before any series is read.
        series: the series to predict (see `monai_ext.spine.inference_series`).
        problems: problems of other files of the folder, and notes on those that aren't used, for the report.
        dataset_dir: folder of the series; paths in the report are relative to it.
        output_dir: folder of the results, outside ``dataset_dir``; it is created.
        previews: see `CascadeOutput`.
        intermediate: see `CascadeOutput`.
        dicom_seg: see `CascadeOutput`.
    """

    def __init__(
        self,
        cascade: SpineCascade,
        series: Sequence[Series],
        problems: Sequence[Problem],
        dataset_dir: str | Path,
        output_dir: str | Path,
        previews: bool = True,
        intermediate: bool = False,
        dicom_seg: bool = True,
    ) -> None:
        self.cascade = cascade
        self.series = series
        self.problems = problems
        self.dataset_dir = Path(dataset_dir).absolute()
        self.output_dir = Path(output_dir).absolute()
        self.output = CascadeOutput(self.output_dir, previews, intermediate, dicom_seg)

    def run(self) -> dict[str, Any]:
        """Predict, and write the report.

        Returns:
            The content of ``report.json``.

        Raises:
            ConfigError: before anything is read, for an output folder inside ``dataset_dir`` or with other contents.
            WeightsError: before anything is read, when a stage can't be loaded.
            WriteError: when the report can't be written.
            IncompleteError: at the end, when a series is broken, or a file that may hold an image was left out; that
                stages refuse series is what they are for.
        """
        self._check_folder()
        stages = self.cascade.stages
        report: dict[str, Any] = {
            "bundle": BUNDLE,
            "version": monai_ext.__version__,
            "note": "Not for clinical use.",
            "dataset_dir": one_line(self.dataset_dir),
            "started": f"{datetime.now():%Y-%m-%d %H:%M:%S}",
            "status": runs.RUNNING,
            "settings": self.cascade.settings(),
            "stages": {name: stage.source for name, stage in stages.items()},
        }
        write_json(self.output_dir / REPORT, report)
        try:
            report |= self._predict_all()
        except BaseException as error:
            status = runs.FAILED if isinstance(error, Exception) else runs.KILLED
            with contextlib.suppress(WriteError):  # the error itself says what is wrong
                write_json(self.output_dir / REPORT, {**report, "status": status})
            raise
        write_json(self.output_dir / REPORT, report)
        self._write_html(report)
        self._raise_if_incomplete(report)
        return report

    def _predict_all(self) -> dict[str, Any]:
        # MONAI's Dataset has a length and items, but isn't declared iterable.
        records = [self._predict(self.series[number]) for number in range(len(self.series))]
        failed: list[str] = []
        for patient in dict.fromkeys(record.patient for record in records):
            own = [record for record in records if record.patient == patient]
            with _going_on(failed):
                write_json(self.output_dir / patient / "summary.json", patient_summary(patient, own))
        with _going_on(failed):
            for folder in prune(self.output_dir, {self.output_dir / record.name for record in records}):
                logger.info("%s: of an earlier run, removed", folder.relative_to(self.output_dir))
        return self._outcome(records, [*self.problems, *(Problem(str(self.output_dir), text) for text in failed)])

    def _predict(self, series: Series) -> SeriesRecord:
        start = time.perf_counter()
        try:
            image = series.read()
            result = self.cascade(image)
            record = SeriesRecord.of(series, image, result)
            record.seconds = round(time.perf_counter() - start, 3)
            self.output.write(record, series, image, result)
        except Exception as error:  # files, networks and disks fail in ways that nobody can list
            logger.debug("%s", series.name, exc_info=error)
            record = SeriesRecord.broken(series, self._reason(error, series))
            record.seconds = round(time.perf_counter() - start, 3)
            with _going_on(record.notes):
                self.output.write(record, series)
        found = f"{len(record.lesions)} lesions" if record.status == ADMITTED else record.reason
        logger.info("%s: %s: %s (%.1f s)", record.name, record.status, found, record.seconds)
        for note in record.notes:
            logger.warning("%s: %s", record.name, note)
        return record

    def _outcome(self, records: Sequence[SeriesRecord], problems: Sequence[Problem]) -> dict[str, Any]:
        return {
            "status": runs.FINISHED,
            "finished": f"{datetime.now():%Y-%m-%d %H:%M:%S}",
            "counts": {
                "series": len(records),
                **{s: sum(r.status == s for r in records) for s in (ADMITTED, REFUSED, BROKEN)},
                "problems": sum(problem.severity != "note" for problem in problems),
            },
            "series": [
                {
                    "patient": record.patient,
                    **record.summary(),
                    "seconds": record.seconds,
                    "files": [self._shown(file) for file in series.files],
                }
                for record, series in zip(records, self.series, strict=True)
            ],
            "problems": [
                asdict(problem)
                | {
                    "path": self._shown(problem.path),
                    "message": one_line(problem.message),
                    "files": [self._shown(file) for file in problem.files],
                }
                for problem in problems
            ],
        }

    def _raise_if_incomplete(self, report: dict[str, Any]) -> None:
        counts = report["counts"]
        admitted = [one for one in report["series"] if one["status"] == ADMITTED]
        wrong = {
            "broken": counts[BROKEN],
            "other files or folders left out": counts["problems"],
            "without DICOM segmentation": sum(NOT_MADE in " ".join(one.get("notes", ())) for one in admitted),
        }
        found = "".join(f", {count} {what}" for what, count in wrong.items() if count)
        summary = (
            f"{counts[ADMITTED]} of {counts['series']} series admitted, {counts[REFUSED]} refused{found}; "
            f"see {self.output_dir / 'report.html'} for the reasons"
        )
        if found:
            raise IncompleteError(summary)
        logger.info(summary)

    def _write_html(self, report: dict[str, Any]) -> None:
        from monai_ext.spine.report import write_batch_report

        write_batch_report(self.output_dir, report)

    def _check_folder(self) -> None:
        if self.output_dir.resolve().is_relative_to(self.dataset_dir.resolve()):
            raise ConfigError(
                f"--output_dir {self.output_dir}: lies in dataset_dir, so that results would be read as series; give "
                "a folder outside it"
            )
        report = self.output_dir / REPORT
        if report.is_file():
            earlier = read_json(report)
            if not isinstance(earlier, dict) or earlier.get("dataset_dir") != one_line(self.dataset_dir):
                raise ConfigError(
                    f"--output_dir {self.output_dir}: holds results of another dataset_dir; give another folder"
                )
        elif self.output_dir.exists() and (not self.output_dir.is_dir() or any(self.output_dir.iterdir())):
            raise ConfigError(f"--output_dir {self.output_dir}: holds other files; give a new or an empty folder")

    def _reason(self, error: Exception, series: Series) -> str:
        """One sentence, with its file relative to the dataset."""
        if not isinstance(error, UserError):
            return one_line(describe(error)[0])
        problem = Problem.of(error, series.files[0].parent)
        return f"{self._shown(problem.path)}: {one_line(problem.message)}"

    def _shown(self, path: str | Path) -> str:
        where = Path(path)
        return one_line(where.relative_to(self.dataset_dir) if where.is_relative_to(self.dataset_dir) else where)


@contextlib.contextmanager
def _going_on(failed: list[str]) -> Iterator[None]:
    """Note an error, whatever it is, and go on."""
    try:
        yield
    except Exception as error:
        logger.debug("", exc_info=error)
        failed.append(one_line(describe(error)[0]))
