"""All folds of a bundle's training, and their joint evaluation."""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monai_ext import runs
from monai_ext.engines.kept_runs import newest_same
from monai_ext.engines.selection_of_folds import selection_of_folds
from monai_ext.errors import ConfigError, DataError
from monai_ext.handlers.data_summary import dataset_hash
from monai_ext.handlers.load_checkpoint import best_checkpoint
from monai_ext.handlers.mlflow_tracker import FAILED, FINISHED, KILLED, MLflowTracker
from monai_ext.handlers.signals import interrupted_by_sigterm
from monai_ext.handlers.tracking import Tracking
from monai_ext.io import finite, read_csv, read_json, write_json
from monai_ext.metrics import (
    ClassificationResult,
    CrossFitted,
    apply_platt,
    best_threshold,
    classification_intervals,
    classification_metrics,
    fit_platt,
    interval_entries,
)
from monai_ext.networks import network_settings
from monai_ext.pages.tables import with_interval
from monai_ext.predictions.writing import Files
from monai_ext.settings import read_bundle_config, recipe_key, recipe_of, resolved_settings
from monai_ext.settings.recipe import FREE, PATHS
from monai_ext.settings.run_names import run_title

logger = logging.getLogger("monai_ext")


class CrossValidation:
    """Trains the folds one after the other, each as its own run, then evaluates their held-out predictions together.

    Args:
        config_file: path of the bundle's ``train.json``, or a list of it and its overlays.
        folds: number of folds, at least 2.
        overrides: settings by key, as on the command line.

    Raises:
        ConfigError: for an override that matches no key or that each fold has of its own, or a bundle without classes
            or with multi-label cases.
    """

    def __init__(self, config_file: str | Sequence[str], folds: int, overrides: Mapping[str, Any]) -> None:
        own = sorted({"fold", "resume", "parent_run_id"} & overrides.keys())
        if own:
            raise ConfigError(f"--{own[0]}: cross-validate sets it itself for each fold; leave it out")
        if overrides.get("num_folds", folds) != folds:
            raise ConfigError(f"--num_folds {overrides['num_folds']}: cross-validate has --folds {folds}; leave it out")
        self.config_file = config_file
        self.folds = folds
        self.overrides = {**overrides, "num_folds": folds}
        self.root = str(Path(config_file if isinstance(config_file, str) else config_file[0]).absolute().parent.parent)
        parser = read_bundle_config(config_file, overrides, self.root)
        if "class_names" not in parser:
            raise ConfigError(
                f"cross-validate: {Path(self.root).name} has no classes, so its folds can't be evaluated "
                "together; train it with several values of --fold and compare the runs"
            )
        parser = self._parser(1)
        if any(np.ndim(case["label"]) for case in parser.get_parsed_content("train#dataset#data")[:1]):
            raise ConfigError(
                f"cross-validate: {Path(self.root).name} is multi-label, and its folds can't be evaluated "
                "together yet; train it with several values of --fold and compare the runs"
            )
        aside = FREE | PATHS | {"fold"}
        self.settings = {name: value for name, value in resolved_settings(parser).items() if name not in aside}
        self.title = run_title(self.root, parser.get())
        self.recipe = recipe_key(recipe_of(parser.get()))
        self.class_names: list[str] = parser.get_parsed_content("class_names")
        self.output_dir = Path(parser.get_parsed_content("output_dir")).absolute()
        names = [name for name in ("tracking_uri", "experiment_name", "trackers") if name in parser]
        self.tracking = Tracking(**{name: parser.get_parsed_content(name) for name in names})
        self.data = {1: _data_hash(parser)} | {fold: _data_hash(self._parser(fold)) for fold in range(2, folds + 1)}
        key = hashlib.sha256(json.dumps([self.recipe, self.data]).encode()).hexdigest()[:8]
        self.folder = self.output_dir / f"cross_validation_{key}"

    @interrupted_by_sigterm()
    def run(self) -> Path:
        """Train the folds that are missing and write everything; returns the path of ``cross_validation.json``.

        Raises:
            DataError: when a fold leaves no finished run.
        """
        tracker = self._open_tracker()
        try:
            finished = [self._fold(fold, tracker) for fold in range(1, self.folds + 1)]
            record = self._summarise(finished, tracker)
        except BaseException as error:
            if tracker is not None:
                tracker.finish(KILLED if isinstance(error, (SystemExit, KeyboardInterrupt)) else FAILED)
            raise
        if tracker is not None:
            tracker.finish(FINISHED)
        return record

    def _parser(self, fold: int) -> Any:
        return read_bundle_config(self.config_file, {**self.overrides, "fold": fold}, self.root)

    def _open_tracker(self) -> MLflowTracker | None:
        if not self.tracking.mlflow:
            return None
        state = self.folder / "mlflow.json"
        known = read_json(state)["run_id"] if state.exists() else None
        name = f"{self.title} · {self.folds}-fold cross-validation {self.folder.name[-8:]}"
        tags = {"mlflow.source.name": self.root, "mlflow.project.entryPoint": "cross-validate"}
        tracker = MLflowTracker(**self.tracking.of_run(), run_name=name, run_id=known, folder=self.folder, tags=tags)
        tracker.parameters({**self.settings, "folds": self.folds})
        write_json(state, {"run_id": tracker.run_id})
        return tracker

    def _fold(self, fold: int, tracker: MLflowTracker | None) -> Path:
        from monai.bundle import run

        finished = self._same(runs.finished_runs(self.output_dir, fold), fold)
        if finished is not None:
            logger.info("fold %d: finished before, kept: %s", fold, finished)
            return finished
        started = self._same(runs.RunFolder(self.output_dir, fold).unfinished(), fold)
        run(
            config_file=self.config_file,
            **{
                **self.overrides,
                "fold": fold,
                "resume": str(started) if started else None,
                "parent_run_id": tracker.run_id if tracker else None,
            },
        )
        gc.collect()  # a fold's network lives on in reference cycles of its workflow
        result = self._same(runs.finished_runs(self.output_dir, fold), fold)
        if result is None:
            raise DataError(f"fold {fold} left no finished run", self.output_dir)
        return result

    def _same(self, candidates: Sequence[Path], fold: int) -> Path | None:
        return newest_same(candidates, self.recipe, self.data[fold])

    def _summarise(self, finished: Sequence[Path], tracker: MLflowTracker | None) -> Path:
        from monai_ext.reports import write_cross_validation_report
        from monai_ext.reports.run_folder import predictions_file

        checkpoints = [best_checkpoint(run) for run in finished]
        metrics = [read_json(run / "metrics" / "metrics.json") for run in finished]
        rows: list[dict[str, Any]] = [
            {**row, "fold": fold}
            for fold, run in enumerate(finished, 1)
            for row in read_csv(run / predictions_file(metrics[fold - 1]), ["case", "label"])
        ]
        probabilities = np.array([[float(row[f"prob_{name}"]) for name in self.class_names] for row in rows])
        labels = np.array([self.class_names.index(row["label"]) for row in rows])
        result = classification_metrics(
            probabilities,
            labels,
            self.class_names,
            cases=[str(row["case"]) for row in rows],
            columns={"patient": [row["patient"] for row in rows]} if "patient" in rows[0] else None,
        )
        intervals = interval_entries(classification_intervals(result, metrics[0].get("cases") or "cases"))
        names = sorted({name for entry in metrics for name in entry["metrics"]})
        values = {n: [m["metrics"][n] for m in metrics if m["metrics"].get(n) is not None] for n in names}
        binary = len(self.class_names) == 2 and len(set(labels.tolist())) == 2
        content: dict[str, Any] = {
            "bundle": Path(self.root).name,
            "parameters": self.settings,
            "settings": network_settings(checkpoints[0]),
            "class_names": self.class_names,
            "cases": metrics[0].get("cases"),
            "folds": [
                {
                    "fold": fold,
                    "run_dir": os.path.relpath(run, self.folder),
                    "checkpoint": os.path.relpath(checkpoints[fold - 1], self.folder),
                    "metrics": entry["metrics"],
                    "best_epoch": entry["best_epoch"],
                    "selection": entry.get("selection"),
                }
                for fold, (run, entry) in enumerate(zip(finished, metrics, strict=True), 1)
            ],
            "mean": {name: float(np.mean(found)) for name, found in values.items() if found},
            "std": {name: float(np.std(found, ddof=1)) for name, found in values.items() if len(found) > 1},
            "out_of_fold": {**result.to_dict(), **intervals},
            "selection": selection_of_folds(metrics),
            "calibration": None,
            "threshold": None,
        }
        if binary:
            content |= _fitted(probabilities[:, 1], labels)
            _cross_fit(content, rows, probabilities[:, 1], result)
        columns = [
            "case",
            *(["patient"] if "patient" in rows[0] else []),
            "fold",
            *(f"prob_{name}" for name in self.class_names),
            "prediction",
            "label",
        ]
        columns += [name for name in rows[0] if name in ("calibrated", "cross_fitted_prediction")]
        table = [{column: row[column] for column in columns} for row in rows]
        Files({"out_of_fold.csv": table}, documents={"cross_validation.json": finite(content)}).write(self.folder)
        record = self.folder / "cross_validation.json"
        report = write_cross_validation_report(self.folder)
        for name, value in result.metrics.items():
            text = f"{name} not computable" if value is None else with_interval(content["out_of_fold"], name)
            logger.info("out of fold: %s", text)
        chosen = content["selection"]
        (logger.warning if chosen["optimistic"] else logger.info)("%s", chosen["sentence"])
        if tracker is not None:
            out_of_fold = {f"out_of_fold_{name}": value for name, value in result.metrics.items()}
            mean = {f"best_{name}": value for name, value in content["mean"].items()}
            tracker.metrics({**out_of_fold, **mean})
            for path in (record, report, self.folder / "out_of_fold.csv"):
                tracker.artifact(path)
        return record


def _fitted(scores: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Calibration and threshold for new cases: fitted on all out-of-fold predictions, so not measured on them."""
    calibration = fit_platt(scores, labels)
    threshold = best_threshold(apply_platt(scores, **calibration), labels)
    fitted_on = "all out-of-fold predictions, for new cases; see cross_fitted for how well that works"
    return {"calibration": calibration, "threshold": threshold, "calibration_fitted_on": fitted_on}


def _cross_fit(
    content: dict[str, Any], rows: Sequence[dict[str, Any]], scores: np.ndarray, result: ClassificationResult
) -> None:
    """Add what is reported of calibration and threshold, to the record and to the rows of the table."""
    try:
        found = CrossFitted(scores, result.labels, [row["fold"] for row in rows])
    except DataError as error:
        content["cross_fitted"] = {"not_estimable": str(error)}
        return
    content["cross_fitted"] = found.record(result.class_names, result.columns, content["cases"] or "cases")
    for row, probability, positive in zip(rows, found.calibrated, found.predicted, strict=True):
        row |= {"calibrated": float(probability), "cross_fitted_prediction": result.class_names[int(positive)]}


def _data_hash(parser: Any) -> str:
    """Hash of the cases that a fold is trained and validated on."""
    data = {name: parser.get_parsed_content(f"{name}#dataset#data") for name in ("train", "validate")}
    items = parser.get_parsed_content("items") if "items" in parser else {}
    inner = {"inner": items["inner"]} if items.get("inner") else {}
    return dataset_hash({"train": data["train"], **inner, "val": data["validate"]})
