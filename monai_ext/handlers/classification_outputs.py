"""The predictions of a classifier's best epoch, as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine

from monai_ext.arrays import to_numpy
from monai_ext.errors import ConfigError
from monai_ext.io import atomic_path, write_csv
from monai_ext.metrics import ClassificationResult, bootstrap_intervals, classification_metrics, merge_parts


class ClassificationOutputs:
    """Keeps the result that `monai_ext.metrics.ClassificationCases` left in an evaluator, and writes it.

    Args:
        class_names: names of the classes, in the order of the network's outputs.
        cases, parts: what the cases and their parts are called, for example ``"nuclei"`` and ``"crops"``, where the
            items of the data set are parts; both or neither.

    Attributes:
        result: the cases, ``None`` before the first validation.
        part_result: their parts, ``None`` where each item is a case.

    Raises:
        ConfigError: when only one of the two names is given.
    """

    def __init__(self, class_names: Sequence[str], cases: str | None = None, parts: str | None = None) -> None:
        check_levels("ClassificationOutputs", cases, parts)
        self.class_names = list(class_names)
        self.cases = cases
        self.parts = parts
        self.result: ClassificationResult | None = None
        self.part_result: ClassificationResult | None = None

    def take(self, evaluator: Engine) -> None:
        """Take over the result of the validation that has just ended.

        Raises:
            ConfigError: when there should be parts and the metric knows of none.
        """
        details = evaluator.state.metric_details
        if self.parts is not None and "parts" not in details:
            raise ConfigError(
                f"ClassificationOutputs: parts={self.parts!r} needs ClassificationCases with the same name"
            )
        self.result = details["classification"]
        self.part_result = details["parts"] if self.parts is not None else None

    def for_checkpoint(self, evaluator: Engine) -> dict[str, Any]:
        """Nothing beside the network."""
        return {}

    def write(self, folder: str | Path) -> None:
        """Write the predictions: ``val_predictions.csv``, with two levels ``predictions_<cases>.csv`` and
        ``predictions_<parts>.csv``; and ``val_{probs,preds,labels}.npy`` of the cases, rows in the same order.
        """
        if self.result is None:
            return
        arrays = {
            "probs": self.result.probabilities,
            "preds": self.result.predictions,
            "labels": self.result.labels,
        }
        for name, array in arrays.items():
            with atomic_path(Path(folder) / f"val_{name}.npy") as temporary:
                np.save(temporary, array)
        write_csv(Path(folder) / self._file, self.result.rows())
        if self.part_result is not None:
            write_csv(Path(folder) / f"predictions_{self.parts}.csv", self.part_result.rows())

    def metrics(self, intervals: bool = False) -> dict[str, Any]:
        """The part of ``metrics.json`` that tells of the best epoch; confidence intervals cost some seconds.

        Parts have no intervals: those of one case are too much alike for a bootstrap over them.
        """
        if self.result is None:
            return {
                "metrics": {},
                "per_class": {},
                "confusion_matrix": [],
                "intervals": {},
                "skipped": ["no validation"],
            }
        content = {**self.result.to_dict(), "predictions": f"predictions/{self._file}"}
        if intervals:
            content["intervals"] = {name: list(pair) for name, pair in bootstrap_intervals(self.result).items()}
        if self.part_result is not None:
            told = ("metrics", "per_class", "confusion_matrix", "confusion_matrix_normalised", "skipped")
            of_parts = self.part_result.to_dict()
            content["cases"] = self.cases
            content["parts"] = {"name": self.parts, **{name: of_parts[name] for name in told}}
        return content

    def report(self) -> str | None:
        """scikit-learn's text report of the cases, that of the parts below; ``None`` when nothing is computable."""
        levels = [(self.cases, self.result), (self.parts, self.part_result)]
        texts = [(name, result.report()) for name, result in levels if result is not None]
        return "\n".join(f"{name}\n\n{text}" if name else text for name, text in texts if text is not None) or None

    def plots(self) -> dict[str, Any]:
        """Matrices and curves of the cases."""
        return {"result": self.result, "cases": self.cases, "parts": self.parts}

    def formats(self, formats: Mapping[str, Any], image_shape: Sequence[int]) -> dict[str, Any]:
        """One channel a class."""
        return class_channels(formats, self.class_names)

    def state_dict(self) -> dict[str, Any]:
        """Probabilities, labels, case names and columns of the items: of the parts, where there are some."""
        items = self.result if self.parts is None else self.part_result
        if items is None:
            return {}
        return {
            "probabilities": torch.from_numpy(items.probabilities),
            "labels": torch.from_numpy(items.labels),
            "cases": list(items.cases),
            "columns": {name: list(values) for name, values in items.columns.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over `state_dict`."""
        if not state:
            return
        items = classification_metrics(
            to_numpy(state["probabilities"]),
            to_numpy(state["labels"]),
            self.class_names,
            cases=state["cases"],
            columns=state.get("columns"),
        )
        self.result = items if self.parts is None else merge_parts(items)
        self.part_result = None if self.parts is None else items

    @property
    def _file(self) -> str:
        return "val_predictions.csv" if self.cases is None else f"predictions_{self.cases}.csv"


def class_channels(formats: Mapping[str, Any], class_names: Sequence[str]) -> dict[str, Any]:
    """Formats of outputs in which ``pred`` has a channel for each class."""
    names = {str(index): name for index, name in enumerate(class_names)}
    kind = {"type": "probabilities", "format": "classification", "spatial_shape": [1]}
    return {**formats, "pred": {**formats["pred"], **kind, "num_channels": len(names), "channel_def": names}}


def check_levels(who: str, cases: str | None, parts: str | None) -> None:
    """Names of two levels, or of none.

    Raises:
        ConfigError: for one name, or the same name twice.
    """
    if (cases is None) != (parts is None) or (cases is not None and cases == parts):
        raise ConfigError(f"{who}: name both cases and parts, differently, or neither; got {cases!r} and {parts!r}")
