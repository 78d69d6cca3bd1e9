"""Predictions of unseen cases as CSV and JSON."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events

from monai_ext.errors import ConfigError
from monai_ext.io import read_json, write_csv, write_json
from monai_ext.metrics import apply_platt

logger = logging.getLogger("monai_ext")


class PredictionWriter:
    """Collects class probabilities of an evaluator and writes ``predictions.csv`` and ``predictions.json``.

    Columns: ``case``, ``prob_<class>`` for every class, ``prediction``, and ``label`` when any label is known. Both
    files appear when all cases are done, or not at all.

    Args:
        output_dir: where they go.
        class_names: C names.
        calibration: ``cross_validation.json`` whose Platt scaling and threshold (fitted on out-of-fold predictions)
            are applied; for two classes.
        threshold: probability of the last class from which it is predicted; ``None`` for the calibration's, else .5.

    Raises:
        ConfigError: for a threshold or a calibration with more than two classes, or one out of 0..1.
    """

    def __init__(
        self,
        output_dir: str | Path,
        class_names: Sequence[str],
        calibration: str | Path | None = None,
        threshold: float | None = None,
    ) -> None:
        if (calibration or threshold is not None) and len(class_names) != 2:
            raise ConfigError(f"threshold and calibration are for two classes, not {len(class_names)}")
        if threshold is not None and not 0 <= threshold <= 1:
            raise ConfigError(f"--threshold {threshold}: must lie in 0..1")
        self.output_dir = Path(output_dir)
        self.class_names = list(class_names)
        self.calibration = Path(calibration) if calibration else None
        self.threshold = threshold
        self.rows: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator whose output holds probabilities (C,) in ``pred``, decollated."""
        engine.add_event_handler(Events.STARTED, self.rows.clear)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.collect)
        engine.add_event_handler(Events.COMPLETED, self.write)

    def collect(self, engine: Engine) -> None:
        """Take a batch."""
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            row = {"case": str(item["case"]), "probabilities": np.asarray(output["pred"], dtype=np.float64).ravel()}
            if "label" in item:
                row["label"] = self.class_names[int(item["label"])]
            self.rows.append(row)

    def write(self) -> None:
        """Write the files."""
        platt, threshold = self._calibration()
        labelled = any("label" in row for row in self.rows)
        rows = [self._row(row, platt, threshold, labelled) for row in self.rows]
        path = write_csv(self.output_dir / "predictions.csv", rows, None if rows else ["case"])
        header = {"class_names": self.class_names, "calibration": platt, "threshold": threshold}
        write_json(self.output_dir / "predictions.json", {**header, "predictions": rows})
        logger.info("%d predictions: %s", len(rows), path)

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
            **{f"prob_{name}": float(p) for name, p in zip(self.class_names, probabilities, strict=True)},
            "prediction": self.class_names[predicted],
            **({"label": row.get("label", "")} if labelled else {}),
        }
