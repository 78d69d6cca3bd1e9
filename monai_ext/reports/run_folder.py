"""Reading a run folder in whatever state a run left it: running, finished, failed, killed, partly damaged."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from monai_ext.errors import DataError
from monai_ext.io import read_csv, read_json
from monai_ext.metrics import (
    ClassificationResult,
    MultiLabelResult,
    SegmentationResult,
    SliceRecord,
    classification_metrics,
    multi_label_metrics,
)

PREDICTIONS = "predictions/val_predictions.csv"


@dataclass
class RunContents:
    """What is in a run folder; a part that is missing is empty, a part that can't be read is in `problems`.

    Attributes:
        path: the folder.
        info: ``run.json``: status, times, parameters, versions, data, memory, events.
        metrics: ``metrics/metrics.json``.
        config: ``config/config.json``, the resolved configuration.
        result: metrics recomputed from the validation predictions with labels; ``None`` without them.
        problems: one sentence for each part that is missing or damaged.
    """

    path: Path
    info: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    result: ClassificationResult | MultiLabelResult | SegmentationResult | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def cases(self) -> str | None:
        """What cases are called, where they have a name of their own: ``"nuclei"``, ``"patches"``."""
        return str(self.metrics["cases"]) if self.metrics.get("cases") else None

    @property
    def targets(self) -> dict[str, Any]:
        """Metrics of each target; empty for a classifier."""
        return as_dict(self.metrics.get("per_target"))

    @property
    def several_labels(self) -> bool:
        """Whether a case can have several labels."""
        return self.metrics.get("task") == "multi_label"

    @property
    def is_segmentation(self) -> bool:
        """Whether slices have one mask each."""
        return self.metrics.get("task") == "segmentation"

    @property
    def parts(self) -> dict[str, Any]:
        """Metrics of the parts with their ``name`` (``"crops"``); empty where each item is a case."""
        found = as_dict(self.metrics.get("parts"))
        return found if isinstance(found.get("name"), str) else {}

    @property
    def history(self) -> list[dict[str, Any]]:
        """Epochs of the history, those that are damaged left out."""
        return [row for row in as_list(self.metrics.get("history")) if isinstance(row, dict)]


def read_run(run_dir: str | Path) -> RunContents:
    """Read a run folder.

    Raises:
        DataError: when it isn't one: neither ``run.json`` nor ``metrics/metrics.json`` is there.
    """
    run = RunContents(Path(run_dir))
    files = {"info": "run.json", "metrics": "metrics/metrics.json", "config": "config/config.json"}
    if not any((run.path / files[name]).is_file() for name in ("info", "metrics")):
        raise DataError("is not a run folder: it has neither run.json nor metrics/metrics.json", run_dir)
    for name, file in files.items():
        setattr(run, name, read_object(run.path / file, run.problems))
    names = [str(name) for name in as_list(run.metrics.get("class_names"))]
    predictions = run.path / predictions_file(run.metrics)
    if run.several_labels:
        run.result = read_label_predictions(predictions, names, run.metrics.get("thresholds"), run.problems)
    elif run.is_segmentation:
        run.result = read_slices(predictions, run.problems)
    elif not run.targets:
        run.result = read_predictions(predictions, names, run.problems)
    return run


def predictions_file(metrics: Mapping[str, Any]) -> str:
    """The predictions of the cases that a ``metrics.json`` names, within the run folder."""
    named = metrics.get("predictions")
    return named if isinstance(named, str) else PREDICTIONS


def read_object(path: Path, problems: list[str]) -> dict[str, Any]:
    """A JSON file with an object, or an empty one and a line in ``problems``."""
    name = f"{path.parent.name}/{path.name}" if path.parent.name in ("metrics", "config") else path.name
    if not path.is_file():
        problems.append(f"{name}: not there (the run ended before it was written, or never writes it)")
        return {}
    try:
        content = read_json(path)
    except (DataError, OSError) as error:
        problems.append(f"{name}: {error}")
        return {}
    if not isinstance(content, dict):
        problems.append(f"{name}: holds a {type(content).__name__} instead of an object")
        return {}
    return content


def read_predictions(path: Path, class_names: list[str], problems: list[str]) -> ClassificationResult | None:
    """The classifier's result from a prediction file (case, prob_<class> …, prediction, label).

    Args:
        path: CSV file.
        class_names: order of the classes; empty: the order of the columns.
        problems: gets a line when the file is missing, damaged or without labels.
    """
    if _is_missing(path, problems):
        return None
    try:
        rows = _filled(path, ["case", "label", *(f"prob_{name}" for name in class_names)])
        names = class_names or [column[5:] for column in rows[0] if column.startswith("prob_")]
        probabilities = np.array([[_number(row, f"prob_{name}", path) for name in names] for row in rows])
        unknown = sorted({row["label"] for row in rows} - set(names))
        if unknown:
            raise DataError(f"label {unknown[0]!r} is none of the classes {names}", path)
        labels = [names.index(row["label"]) for row in rows]
        return classification_metrics(probabilities, labels, names, cases=[row["case"] for row in rows])
    except (DataError, OSError) as error:
        problems.append(f"{path.name}: {error}")
        return None


def read_label_predictions(
    path: Path, class_names: list[str], thresholds: object, problems: list[str]
) -> MultiLabelResult | None:
    """The result of several labels from a prediction file (case, prob_<class> …, label_<class> …).

    Args:
        path: CSV file.
        class_names: names of the classes.
        thresholds: as ``metrics.json`` has them.
        problems: gets a line when the file is missing, damaged or without labels.
    """
    if _is_missing(path, problems):
        return None
    try:
        kinds = [[f"{kind}_{name}" for name in class_names] for kind in ("prob", "label")]
        rows = _filled(path, ["case", *kinds[0], *kinds[1]])
        scores, labels = (np.array([[_number(row, name, path) for name in names] for row in rows]) for names in kinds)
        cuts = [float(value) for value in as_list(thresholds)] or None
        return multi_label_metrics(scores, labels, class_names, cuts, [row["case"] for row in rows])
    except (DataError, OSError, TypeError, ValueError) as error:
        problems.append(f"{path.name}: {error}")
        return None


def read_slices(path: Path, problems: list[str]) -> SegmentationResult | None:
    """The result of masks from a file with a row a slice, as `SegmentationResult.rows` makes them.

    Args:
        path: CSV file.
        problems: gets a line when the file is missing or damaged.
    """
    if _is_missing(path, problems):
        return None
    pixels = ["overlap_pixels", "predicted_pixels", "true_pixels"]
    try:
        records = [
            SliceRecord(
                number,
                row["case"],
                row["patient"],
                _number(row, "loss", path) if row.get("loss") else None,
                # empty where the network's output isn't finite
                *(_number(row, name, path) if row.get(name) else math.nan for name in pixels),
            )
            for number, row in enumerate(_filled(path, ["case", "patient", "true_pixels"]))
        ]
    except (DataError, OSError) as error:
        problems.append(f"{path.name}: {error}")
        return None
    return SegmentationResult(records)


def as_dict(value: object) -> dict[str, Any]:
    """The value itself if it is a dictionary, else an empty one: files may be edited or damaged."""
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> list[Any]:
    """The value itself if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def _is_missing(path: Path, problems: list[str]) -> bool:
    if not path.is_file():
        problems.append(f"{path.name}: not there, so there are no curves and no list of mistakes")
    return not path.is_file()


def _filled(path: Path, columns: list[str]) -> list[dict[str, str]]:
    rows = read_csv(path, columns)
    if not rows:
        raise DataError("has no rows", path)
    return rows


def _number(row: dict[str, str], column: str, path: Path) -> float:
    try:
        return float(row[column])
    except ValueError:
        raise DataError(f"case {row['case']!r}, column {column!r}: {row[column]!r} is not a number", path) from None
