"""The static HTML report of a run and of a cross-validation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from monai_ext.errors import DataError
from monai_ext.io import read_csv, write_text
from monai_ext.metrics import ClassificationResult, MultiLabelResult, SegmentationResult
from monai_ext.reports import plots
from monai_ext.reports.document import Block, Folded, Section, Table, Text, cell, pairs, picture, picture_file, render
from monai_ext.reports.label_sections import label_case_table, label_metrics_blocks, label_mistakes_blocks
from monai_ext.reports.run_folder import (
    RunContents,
    as_dict,
    as_list,
    predictions_file,
    read_object,
    read_predictions,
    read_run,
)
from monai_ext.reports.sections import (
    as_lines,
    case_tables,
    count_table,
    key_metric,
    metrics_blocks,
    mistakes_blocks,
    patches_blocks,
    with_interval,
)
from monai_ext.reports.segmentation_sections import patients_blocks, segmentation_metrics_blocks, slices_blocks

_STATUS = {
    "finished": "The run finished.",
    "running": "The run was still going on when this report was written, or ended without a trace.",
    "failed": "The run failed: what follows is what it had written by then.",
    "killed": "The run was killed: what follows is what it had written by then.",
}

_ALT = {
    "loss_curves": "Training and validation loss by epoch",
    "loss_terms": "Training and validation loss of each target by epoch",
    "angle_curves": "Mean angle to the true vectors by epoch, in degrees",
    "learning_curves": "Validation metrics and learning rate by epoch",
    "confusion_matrix": "Confusion matrix, the same numbers as in the table",
    "confusion_matrix_normalised": "Confusion matrix in per cent of each true class",
    "roc": "ROC curves, true positive rate over false positive rate",
    "precision_recall": "Precision over recall",
    "calibration": "Observed frequency over predicted probability",
    "prevalence": "How often each label is given and predicted, in per cent of the cases",
    "dice_of_slices": "Histogram of the Dice of the slices with a mask",
    "dice_by_size": "Dice of each slice over the size of its mask",
    "dice_of_patients": "Dice of each patient and of their slices, the lowest first",
    "class_counts": "Cases by class in each part of the data",
}


def write_report(run_dir: str | Path, output: str | Path | None = None) -> Path:
    """Write the report of one run: one HTML file that needs nothing else.

    What the run didn't write (it was killed, it had no validation) becomes a sentence in the report.

    Args:
        run_dir: run folder.
        output: HTML file; default ``report.html`` in the run folder.

    Raises:
        DataError: when ``run_dir`` is not a run folder.
    """
    run = read_run(run_dir)
    bundle = run.info.get("bundle") or run.metrics.get("bundle")
    title = " ".join(str(part) for part in (bundle, run.info.get("run_name") or run.path.name) if part)
    status = str(run.info.get("status", ""))
    cases = run.cases or "cases"
    sections = [
        Section("Summary", _summary(run, status)),
        Section(f"Metrics of {cases}" if run.parts else "Metrics", _metrics(run, run.metrics, cases)),
        *_part_sections(run),
        *_example_sections(run, cases),
        Section("Curves", _pictures(run)),
        Section("Hyper-parameters", _parameters(run)),
        Section("Data", _data(run)),
        Section("Environment", _environment(run.info)),
        Section("Skipped, and why", [Text(_skipped(run) or ["Nothing was skipped."])]),
    ]
    page = render(title, f"{run.path.name}, {_times(run.info)}", status if status in _STATUS else "", sections)
    return write_text(output or run.path / "report.html", page)


def write_cross_validation_report(cv_dir: str | Path, output: str | Path | None = None) -> Path:
    """Write the report of a cross-validation (``cross_validation.json``, ``out_of_fold.csv``).

    Args:
        cv_dir: folder of the cross-validation.
        output: HTML file; default ``report.html`` in the folder.

    Raises:
        DataError: when the folder has no ``cross_validation.json``.
    """
    folder = Path(cv_dir)
    if not is_cross_validation(folder):
        raise DataError("is not a cross-validation folder: it has no cross_validation.json", folder)
    problems: list[str] = []
    content = read_object(folder / "cross_validation.json", problems)
    together = as_dict(content.get("out_of_fold"))
    cases = str(content.get("cases") or "cases")
    names = [str(name) for name in as_dict(together.get("per_class"))]
    result = read_predictions(folder / "out_of_fold.csv", names, problems)
    folds = [fold for fold in as_list(content.get("folds")) if isinstance(fold, dict)]

    key = key_metric(together)
    summary = [f"{len(folds)} folds have finished." if folds else "No fold has finished."]
    if key:
        summary.append(f"Out of fold, over all {cases}: {with_interval(together, key)}.")
        mean, std = as_dict(content.get("mean")).get(key), as_dict(content.get("std")).get(key)
        if mean is not None:
            summary.append(f"Mean over the folds: {key} {cell(mean)} ± {cell(std)} (standard deviation).")
    settings = {name: content[name] for name in ("calibration", "threshold") if content.get(name) is not None}
    drawn = plots.figures(result=result)
    skipped = [*as_lines(together.get("skipped")), *problems]
    sections = [
        Section("Summary", [Text(summary)]),
        Section("Folds", _folds(folds, content)),
        Section("Out-of-fold metrics", metrics_blocks(together, cases)),
        Section("Mistakes", mistakes_blocks(result, cases)),
        Section("Curves", [picture(figure, _ALT[name]) for name, figure in drawn.items()] or [_NO_CURVES]),
        Section(
            "Calibration and threshold",
            [pairs(settings, ("setting", "value")) if settings else Text(["None was fitted."])],
        ),
        Section("Skipped, and why", [Text(skipped or ["Nothing was skipped."])]),
    ]
    title = f"{content.get('bundle', '')} cross-validation".strip()
    return write_text(output or folder / "report.html", render(title, folder.name, "", sections))


def is_cross_validation(folder: str | Path) -> bool:
    """Whether the folder holds a cross-validation rather than one run."""
    return (Path(folder) / "cross_validation.json").is_file()


_NO_CURVES = Text(["There is nothing to draw: no epoch had ended and there are no predictions."])


def _summary(run: RunContents, status: str) -> list[Block]:
    lines = [_STATUS.get(status, "How the run ended is not recorded.")]
    done = len(run.history)
    evaluation = status == "finished" and not done
    planned = as_dict(run.info.get("parameters")).get("max_epochs")
    if not evaluation:
        lines.append(f"{done} of {planned} epochs were run." if planned else f"{done} epochs were run.")
    fold = run.metrics.get("fold", as_dict(run.info.get("parameters")).get("fold"))
    if fold is not None:
        lines.append(f"Fold {fold}.")
    key = key_metric(run.metrics)
    if run.metrics.get("best_epoch") is not None and not evaluation:
        lines.append(f"Best epoch: {run.metrics['best_epoch']}.")
    told = "Evaluation" if evaluation else "Validation"
    lines.append(f"{told} {with_interval(run.metrics, key)}." if key else "No metric could be computed.")
    return [Text(lines)]


def _metrics(run: RunContents, metrics: Mapping[str, Any], unit: str) -> list[Block]:
    if run.is_segmentation:
        return segmentation_metrics_blocks(metrics)
    return (label_metrics_blocks if run.several_labels else metrics_blocks)(metrics, unit)


def _part_sections(run: RunContents) -> list[Section]:
    if not run.parts:
        return []
    name, cases = run.parts["name"], run.cases or "cases"
    of_parts = {**run.parts, "class_names": run.metrics.get("class_names")}
    joined = "merged" if run.several_labels else "mean"
    told = f"The {cases} above have the {joined} probabilities of their {name}; these numbers count each by itself."
    return [Section(f"Metrics of {name}", [Text([told]), *_metrics(run, of_parts, name)])]


def _example_sections(run: RunContents, cases: str) -> list[Section]:
    """What went wrong, case by case; for pictures as outputs, some of them."""
    if isinstance(run.result, MultiLabelResult):
        return [Section("Mistakes", label_mistakes_blocks(run.result, cases))]
    if run.is_segmentation:
        masks = run.result if isinstance(run.result, SegmentationResult) else None
        return [_previews(run), Section("Patients and slices", [*patients_blocks(masks), *slices_blocks(masks)])]
    if not run.targets:
        result = run.result if isinstance(run.result, ClassificationResult) else None
        return [Section("Mistakes", mistakes_blocks(result, cases))]
    path = run.path / predictions_file(run.metrics)
    try:
        rows = read_csv(path, ["case"])
    except (DataError, OSError) as error:
        rows = []
        run.problems.append(f"{path.name}: {error}")
    return [_previews(run), Section("Patches", patches_blocks(rows))]


def _previews(run: RunContents) -> Section:
    """Pictures of the best epoch, else of the last one."""
    previews = sorted((run.path / "previews").glob("epoch_*.png"))
    best = run.path / "previews" / f"epoch_{run.metrics.get('best_epoch') or 0:04d}.png"
    shown: list[Block] = [picture_file(path) for path in ([best] if best in previews else previews[-1:])]
    return Section("Previews", shown or [Text(["There are none."])])


def _pictures(run: RunContents) -> list[Block]:
    """Figures drawn from the numbers, then whatever else lies in ``plots/``."""
    best = run.metrics.get("best_epoch")
    drawn = plots.figures(
        run.history,
        run.result,
        best if isinstance(best, int) else None,
        None if run.targets or run.is_segmentation else _counts(run, "cases") or _counts(run, "counts"),
        run.cases,
        run.parts.get("name"),
    )
    blocks: list[Block] = [picture(figure, _ALT[name]) for name, figure in drawn.items()]
    others = sorted((run.path / "plots").glob("[!.]*.png"))
    blocks += [picture_file(path) for path in others if path.stem not in drawn and path.is_file()]
    return blocks or [_NO_CURVES]


def _parameters(run: RunContents) -> list[Block]:
    found = as_dict(run.info.get("parameters"))
    blocks: list[Block] = [pairs(found, ("knob", "value")) if found else Text(["They were not recorded."])]
    if run.config:
        blocks.append(Folded("Resolved configuration", json.dumps(run.config, indent=2, ensure_ascii=False)))
    return blocks


def _data(run: RunContents) -> list[Block]:
    blocks: list[Block] = [Text([f"Fingerprint: {as_dict(run.info.get('data')).get('fingerprint', 'not recorded')}."])]
    blocks += _count_tables(run)
    if isinstance(run.result, MultiLabelResult):
        blocks.append(label_case_table(run.result, run.cases or "cases"))
    elif isinstance(run.result, ClassificationResult):
        blocks += case_tables(run.result.rows(), f"Validation {run.cases or 'cases'}", folded=True)
    return blocks


def _count_tables(run: RunContents) -> list[Block]:
    """Cases by class; parts too, where the run counted both."""
    of_cases, of_items = _counts(run, "cases"), _counts(run, "counts")
    if not of_cases:
        caption = f"Number of {run.cases or 'cases'}" if run.targets or run.is_segmentation else "Cases by class"
        return [count_table(of_items, caption, not run.several_labels)] if of_items else []
    named = [(of_cases, run.cases or "cases"), (of_items, run.parts.get("name", "items"))]
    return [count_table(counts, f"{name.capitalize()} by class", not run.several_labels) for counts, name in named]


def _environment(info: Mapping[str, Any]) -> list[Block]:
    shown = {name: info[name] for name in ("device", "commit", "mlflow_run_id", "memory") if info.get(name) is not None}
    device = as_dict(info.get("parameters")).get("device")
    if device is not None:
        shown.setdefault("device", device)
    blocks: list[Block] = [pairs(shown, ("property", "value"))] if shown else []
    if as_dict(info.get("versions")):
        blocks.append(pairs(info["versions"], ("package", "version")))
    return blocks or [Text(["It was not recorded."])]


def _skipped(run: RunContents) -> list[str]:
    computed = run.result.skipped if run.result is not None else []
    of_parts = [f"{run.parts['name']}: {line}" for line in as_lines(run.parts.get("skipped"))]
    told = as_lines(run.metrics.get("skipped"))
    lines = [*told, *computed, *of_parts, *as_lines(run.info.get("events")), *run.problems]
    return list(dict.fromkeys(lines))


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


def _counts(run: RunContents, key: str) -> dict[str, dict[str, int]]:
    counts = as_dict(as_dict(run.info.get("data")).get(key))
    whole = {
        str(part): {str(name): count for name, count in as_dict(found).items() if isinstance(count, int)}
        for part, found in counts.items()
    }
    return {part: found for part, found in whole.items() if found}


def _times(info: Mapping[str, Any]) -> str:
    started, ended = info.get("started"), info.get("ended")
    if not started:
        return "start not recorded"
    try:
        length = datetime.fromisoformat(str(ended)) - datetime.fromisoformat(str(started))
    except (ValueError, TypeError):
        return f"started {started}" + (f", ended {ended}" if ended else "")
    return f"started {started}, took {str(length).split('.')[0]}"
