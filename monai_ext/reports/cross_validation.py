"""The static HTML report of a cross-validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_ext.errors import DataError
from monai_ext.io import write_text
from monai_ext.pages.document import Block, Folded, Section, Table, Text, cell, pairs, render
from monai_ext.pages.tables import as_dict, as_lines, as_list, interval_text, key_metric, with_interval
from monai_ext.predictions.classification import Classification
from monai_ext.reports import mistakes_figure
from monai_ext.reports.checklist import calibration, checklist_blocks, thresholds, uncertainty
from monai_ext.reports.html import MISTAKES, NO_CURVES, drawn_blocks, picture_sections
from monai_ext.reports.run_folder import read_object, read_predictions
from monai_ext.reports.subgroup_tables import FILE, subgroup_section


def write_cross_validation_report(cv_dir: str | Path, output: str | Path | None = None) -> Path:
    """Write the report of a cross-validation (``cross_validation.json``, ``out_of_fold.csv``).

    Args:
        cv_dir: folder of the cross-validation.
        output: HTML file; default ``report.html`` in the folder.

    Returns:
        Path of the report.

    Raises:
        DataError: when the folder has no ``cross_validation.json``.
        WriteError: when the file can't be written.
    """
    folder = Path(cv_dir)
    if not is_cross_validation(folder):
        raise DataError("is not a cross-validation folder: it has no cross_validation.json", folder)
    problems: list[str] = []
    content = read_object(folder / "cross_validation.json", problems)
    together = as_dict(content.get("out_of_fold"))
    cases = str(content.get("cases") or "cases")
    names = [str(name) for name in as_dict(together.get("per_class"))]
    path = folder / "out_of_fold.csv"
    result = read_predictions(Classification, path, {"class_names": names}, problems)
    folds = [fold for fold in as_list(content.get("folds")) if isinstance(fold, dict)]

    key = key_metric(together)
    summary = [f"{len(folds)} folds have finished." if folds else "No fold has finished."]
    if key:
        summary.append(f"Out of fold, over all {cases}: {with_interval(together, key)}.")
        mean, std = as_dict(content.get("mean")).get(key), as_dict(content.get("std")).get(key)
        if mean is not None:
            summary.append(f"Mean over the folds: {key} {cell(mean)} ± {cell(std)} (standard deviation).")
    sentence = as_dict(content.get("selection")).get("sentence")
    if sentence:
        summary.append(str(sentence))
    drawn = {} if result is None else Classification.figures(result)
    skipped = [*as_lines(together.get("skipped")), *problems]
    sections = [
        Section("Summary", [Text(summary)]),
        Section("Folds", _folds(folds, content)),
        Section("Out-of-fold metrics", Classification.metric_blocks(together, cases)),
        *Classification.sections(result, cases),
        *_mistakes_of_folds(folder, folds),
        Section("Curves", drawn_blocks(drawn, Classification) or [NO_CURVES]),
        Section("Calibration and threshold", _calibration(content)),
        subgroup_section(read_object(folder / FILE, problems) if (folder / FILE).is_file() else {}),
        Section("Reporting checklist", _checklist(content, together, result)),
        Section("Skipped, and why", [Text(skipped or ["Nothing was skipped."])]),
    ]
    title = f"{content.get('bundle', '')} cross-validation".strip()
    return write_text(output or folder / "report.html", render(title, folder.name, "", sections))


def _mistakes_of_folds(folder: Path, folds: Sequence[Mapping[str, Any]]) -> list[Section]:
    found = [(fold.get("fold"), folder / str(fold.get("run_dir"))) for fold in folds if fold.get("run_dir")]
    return [
        section
        for number, run in found
        for section in picture_sections(
            run, MISTAKES, f"Mistakes of fold {number} in pictures", mistakes_figure.ALTERNATIVE
        )
    ]


def _checklist(content: Mapping[str, Any], together: Mapping[str, Any], result: Any) -> list[Block]:
    cross_fitted = as_dict(content.get("cross_fitted"))
    return checklist_blocks(
        [
            ("Flow of cases", "See the report of each fold; each case is held out once."),
            ("Choice of the epochs", as_dict(content.get("selection")).get("sentence") or "not recorded"),
            ("Choice of thresholds", thresholds(cross_fitted or {"thresholds": content.get("threshold")})),
            ("Uncertainty", uncertainty(together)),
            ("Calibration, before calibrating", calibration(result)),
            ("Subgroups", "See Subgroups."),
            ("Failures", "See Mistakes."),
            ("Seeds", cell(as_dict(content.get("parameters")).get("seed"))),
        ]
    )


def _calibration(content: Mapping[str, Any]) -> list[Block]:
    """What new cases will get, and how that works for cases that had no part in the fit."""
    settings = {name: content[name] for name in ("calibration", "threshold") if content.get(name) is not None}
    if not settings:
        return [Text(["None was fitted."])]
    blocks: list[Block] = [
        Text(["For new cases, fitted on all out-of-fold predictions:"]),
        pairs(settings, ("setting", "value")),
    ]
    fitted = as_dict(content.get("cross_fitted"))
    values = as_dict(fitted.get("metrics"))
    if not values:
        return [
            *blocks,
            Text([f"Not evaluated: {fitted['not_estimable']}" if fitted else "How good they are is unknown."]),
        ]
    rows = [(name, value, interval_text(fitted, name)) for name, value in values.items()]
    caption = "Decisions at thresholds that were chosen on the other folds"
    line = {f"calibration {name}": value for name, value in as_dict(fitted.get("calibration")).items()}
    blocks.append(Table(("metric", "value", "95 % interval"), rows, caption=caption))
    note = "Of the probabilities that the calibrations of the other folds give; slope 1 and intercept 0 are best."
    return [*blocks, Text([note]), pairs(line, ("calibration", "value"))]


def is_cross_validation(folder: str | Path) -> bool:
    """Whether a folder is that of a cross-validation rather than of one run.

    Args:
        folder: with a ``cross_validation.json``, or not.
    """
    return (Path(folder) / "cross_validation.json").is_file()


def _folds(folds: Sequence[Mapping[str, Any]], content: Mapping[str, Any]) -> list[Block]:
    if not folds:
        return [Text(["No fold has finished."])]
    names = list(dict.fromkeys(name for fold in folds for name in as_dict(fold.get("metrics"))))
    rows: list[Sequence[Any]] = [
        (fold.get("fold"), fold.get("best_epoch"), *(as_dict(fold.get("metrics")).get(name) for name in names))
        for fold in folds
    ]
    for label in ("mean", "std"):
        values = as_dict(content.get(label))
        if values:
            rows.append((label, None, *(values.get(name) for name in names)))
    runs = [(fold.get("fold"), fold.get("run_dir")) for fold in folds]
    return [Table(("fold", "best epoch", *names), rows), Folded("Run folders", Table(("fold", "run folder"), runs))]
