"""Predictions of unseen cases as CSV and JSON."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events

from monai_ext.arrays import to_numpy
from monai_ext.data.loader import UNKNOWN
from monai_ext.errors import ConfigError
from monai_ext.handlers.classification_outputs import check_levels
from monai_ext.io import read_json, write_csv, write_json
from monai_ext.metrics import apply_platt
from monai_ext.metrics.parts import label_by_case, mean_by_case, part_values

logger = logging.getLogger("monai_ext")


class PredictionWriter:
    """Collects class probabilities of an evaluator and writes ``predictions.csv`` and ``predictions.json``.

    Columns: ``case``, ``prob_<class>`` for every class, ``prediction``, and ``label`` when any label is known. All
    files appear when all cases are done, or not at all; rows are in the order of the data.

    Where the data are parts of cases, ``predictions_<parts>.csv`` has a row for each, with `part_columns` behind
    ``case``, and ``predictions_<cases>.csv`` the mean probabilities of each case. In ``predictions.json``
    ``predictions`` are those of the cases and ``parts`` holds the others. Calibration and threshold are about cases
    (they were fitted on cases), so parts keep the network's own probabilities and the most probable class.

    Args:
        output_dir: where they go.
        class_names: C names.
        calibration: ``cross_validation.json`` whose Platt scaling and threshold (fitted on out-of-fold predictions)
            are applied; for two classes.
        threshold: probability of the last class from which it is predicted; ``None`` for the calibration's, else .5.
        cases, parts: what the two levels are called, for example ``"nuclei"`` and ``"crops"``; both or neither.
        part_columns: keys of the items that tell the parts of a case apart.

    Raises:
        ConfigError: for a threshold or a calibration with more than two classes, or one out of 0..1; when only one
            of the two levels has a name.
    """

    def __init__(
        self,
        output_dir: str | Path,
        class_names: Sequence[str],
        calibration: str | Path | None = None,
        threshold: float | None = None,
        cases: str | None = None,
        parts: str | None = None,
        part_columns: Sequence[str] = (),
    ) -> None:
        if (calibration or threshold is not None) and len(class_names) != 2:
            raise ConfigError(f"threshold and calibration are for two classes, not {len(class_names)}")
        if threshold is not None and not 0 <= threshold <= 1:
            raise ConfigError(f"--threshold {threshold}: must lie in 0..1")
        check_levels("PredictionWriter", cases, parts)
        self.output_dir = Path(output_dir)
        self.class_names = list(class_names)
        self.calibration = Path(calibration) if calibration else None
        self.threshold = threshold
        self.cases = cases
        self.parts = parts
        self.part_columns = list(part_columns)
        self.rows: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator whose output holds probabilities (C,) in ``pred``, decollated."""
        engine.add_event_handler(Events.STARTED, self.rows.clear)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.collect)
        engine.add_event_handler(Events.COMPLETED, self.write)

    def collect(self, engine: Engine) -> None:
        """Take a batch."""
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            row = {
                "case": str(item["case"]),
                "columns": part_values(item, self.part_columns),
                "probabilities": to_numpy(output["pred"], np.float64).ravel(),
            }
            label = int(item.get("label", UNKNOWN))
            if label != UNKNOWN:
                row["label"] = self.class_names[label]
            self.rows.append(row)

    def write(self) -> None:
        """Write the files.

        Raises:
            DataError: when the parts of a case have different labels.
        """
        platt, threshold = self._calibration()
        labelled = any("label" in row for row in self.rows)
        cases = self.rows if self.parts is None else _by_case(self.rows)
        rows = [self._row(row, platt, threshold, labelled) for row in cases]
        of_parts = [self._row(row, None, None, labelled) for row in self.rows] if self.parts is not None else []
        header = {"class_names": self.class_names, "calibration": platt, "threshold": threshold}
        content: dict[str, Any] = {**header, "predictions": rows}
        if self.parts is not None:
            content["parts"] = {"name": self.parts, "predictions": of_parts}
            self._write_csv(f"predictions_{self.parts}.csv", of_parts)
        path = self._write_csv("predictions.csv" if self.cases is None else f"predictions_{self.cases}.csv", rows)
        write_json(self.output_dir / "predictions.json", content)
        logger.info("%d predictions: %s", len(rows), path)

    def _write_csv(self, name: str, rows: Sequence[dict[str, Any]]) -> Path:
        return write_csv(self.output_dir / name, rows, None if rows else ["case"])

    def _calibration(self) -> tuple[dict[str, float] | None, float | None]:
        if self.calibration is None:
            return None, self.threshold
        content = read_json(self.calibration)
        try:
            platt = {name: float(content["calibration"][name]) for name in ("a", "b")}
            fitted = float(content["threshold"])
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"--calibration {self.calibration}: holds no calibration and threshold") from error
        return platt, fitted if self.threshold is None else self.threshold

    def _row(
        self, row: dict[str, Any], platt: dict[str, float] | None, threshold: float | None, labelled: bool
    ) -> dict[str, Any]:
        probabilities = row["probabilities"]
        if platt is not None:
            positive = float(apply_platt(probabilities[1], **platt))
            probabilities = np.array([1 - positive, positive])
        predicted = int(probabilities.argmax()) if threshold is None else int(probabilities[1] >= threshold)
        return {
            "case": row["case"],
            **row["columns"],
            **{f"prob_{name}": float(p) for name, p in zip(self.class_names, probabilities, strict=True)},
            "prediction": self.class_names[predicted],
            **({"label": row.get("label", "")} if labelled else {}),
        }


def _by_case(parts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the cases, in the order of their first parts."""
    if not parts:
        return []
    names, means = mean_by_case([row["case"] for row in parts], np.stack([row["probabilities"] for row in parts]))
    labels = label_by_case([row["case"] for row in parts], [row.get("label", "") for row in parts])
    return [
        {"case": name, "columns": {}, "probabilities": mean, "label": labels[name]}
        for name, mean in zip(names, means, strict=True)
    ]
