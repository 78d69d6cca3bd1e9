"""The predictions of a network with several labels in its best epoch, as files, with a threshold for each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine

from monai_ext.arrays import to_numpy
from monai_ext.errors import ConfigError
from monai_ext.handlers.classification_outputs import check_levels, class_channels
from monai_ext.io import write_csv
from monai_ext.metrics import MultiLabelResult, choose_thresholds, multi_label_intervals, multi_label_metrics


class MultiLabelOutputs:
    """Keeps the result that `monai_ext.metrics.MultiLabelCases` left in an evaluator, and writes it.

    Where that metric has no thresholds (in training), they are chosen on its cases, for the best F1 of each class:
    best checkpoints then hold them, and `monai_ext.networks.saved_thresholds` hands them to evaluation and inference.
    Scores at thresholds that were chosen on the same cases are a little too good, which metrics and report say. The
    predictions of parts are at 0.5, as thresholds are the cases'.

    Args:
        class_names: names of the classes, in the order of the network's outputs.
        cases, parts: what the cases and their parts are called, for example ``"volumes"`` and ``"slices"``, where the
            items of the data set are parts; both or neither.

    Attributes:
        result: the cases, ``None`` before the first validation.
        part_result: their parts, ``None`` where each item is a case.
        chosen_here: whether the thresholds were chosen on these cases.

    Raises:
        ConfigError: when only one of the two names is given.
    """

    def __init__(self, class_names: Sequence[str], cases: str | None = None, parts: str | None = None) -> None:
        check_levels("MultiLabelOutputs", cases, parts)
        self.class_names = list(class_names)
        self.cases = cases
        self.parts = parts
        self.result: MultiLabelResult | None = None
        self.part_result: MultiLabelResult | None = None
        self.chosen_here = False

    def take(self, evaluator: Engine) -> None:
        """Take over the result of the validation that has just ended.

        Raises:
            ConfigError: when there should be parts and the metric knows of none.
        """
        details = evaluator.state.metric_details
        if self.parts is not None and "parts" not in details:
            raise ConfigError(f"MultiLabelOutputs: parts={self.parts!r} needs MultiLabelCases with the same name")
        self.chosen_here = details["multi_label"].thresholds is None
        self.result = _with_thresholds(details["multi_label"])
        self.part_result = details["parts"] if self.parts is not None else None

    def for_checkpoint(self, evaluator: Engine) -> dict[str, Any]:
        """``thresholds`` of the validation that has just ended, in the order of the classes, and ``thresholds_level``,
        what they are about: ``"volumes"``, say, or ``"cases"``.
        """
        thresholds = _with_thresholds(evaluator.state.metric_details["multi_label"]).thresholds
        return {} if thresholds is None else {"thresholds": thresholds, "thresholds_level": self._level}

    def write(self, folder: str | Path) -> None:
        """Write the predictions: ``val_predictions.csv``, with two levels ``predictions_<cases>.csv`` and
        ``predictions_<parts>.csv``.
        """
        if self.result is None:
            return
        write_csv(Path(folder) / self._file, self.result.rows())
        if self.part_result is not None:
            write_csv(Path(folder) / f"predictions_{self.parts}.csv", self.part_result.rows())

    def metrics(self, intervals: bool = False) -> dict[str, Any]:
        """The part of ``metrics.json`` that tells of the best epoch; confidence intervals cost some seconds.

        ``task`` is ``"multi_label"``, by which reports know it; ``thresholds`` are in the order of ``class_names``.
        """
        found: dict[str, Any] = {"task": "multi_label", "confusion_matrix": [], "intervals": {}}
        if self.result is None:
            return {**found, "metrics": {}, "per_class": {}, "skipped": ["no validation"]}
        found |= self.result.to_dict()
        found |= {"thresholds_level": self._level, "thresholds_chosen_here": self.chosen_here}
        found["predictions"] = f"predictions/{self._file}"
        if intervals:
            found["intervals"] = {name: list(pair) for name, pair in multi_label_intervals(self.result).items()}
        if self.part_result is not None:
            of_parts = self.part_result.to_dict()
            told = {name: of_parts[name] for name in ("metrics", "per_class", "skipped")}
            found |= {"cases": self.cases, "parts": {"name": self.parts, **told}}
        return found

    def report(self) -> None:
        """There is no text beside the metrics."""

    def plots(self) -> dict[str, Any]:
        """Curves, calibration and frequencies of the cases."""
        return {"result": self.result, "cases": self.cases, "parts": self.parts}

    def formats(self, formats: Mapping[str, Any], image_shape: Sequence[int]) -> dict[str, Any]:
        """One channel a class."""
        return class_channels(formats, self.class_names)

    def state_dict(self) -> dict[str, Any]:
        """Both levels as they are: how cases were made from their parts is the metric's to know."""
        if self.result is None:
            return {}
        parts = None if self.part_result is None else _state(self.part_result)
        return {"cases": _state(self.result), "parts": parts, "chosen_here": self.chosen_here}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over `state_dict`."""
        if not state:
            return
        self.result = _restored(state["cases"], self.class_names)
        self.part_result = None if state["parts"] is None else _restored(state["parts"], self.class_names)
        self.chosen_here = state["chosen_here"]

    @property
    def _level(self) -> str:
        return self.cases or "cases"

    @property
    def _file(self) -> str:
        return "val_predictions.csv" if self.cases is None else f"predictions_{self.cases}.csv"


def _with_thresholds(result: MultiLabelResult) -> MultiLabelResult:
    """The result with thresholds, its own or those that are best for its cases; none where outputs aren't finite."""
    if result.thresholds is not None or not np.isfinite(result.probabilities).all():
        return result
    chosen = choose_thresholds(result.probabilities, result.labels)
    return multi_label_metrics(
        result.probabilities, result.labels, result.class_names, chosen, result.cases or None, result.columns
    )


def _state(result: MultiLabelResult) -> dict[str, Any]:
    return {
        "probabilities": torch.from_numpy(result.probabilities),
        "labels": torch.from_numpy(result.labels),
        "thresholds": result.thresholds,
        "cases": list(result.cases),
        "columns": {name: list(values) for name, values in result.columns.items()},
    }


def _restored(state: Mapping[str, Any], class_names: Sequence[str]) -> MultiLabelResult:
    return multi_label_metrics(
        to_numpy(state["probabilities"]),
        to_numpy(state["labels"]),
        class_names,
        state["thresholds"],
        state["cases"] or None,
        state["columns"],
    )
