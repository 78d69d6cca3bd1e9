"""The predictions of a classifier's best epoch, as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine

from monai_ext.io import atomic_path, write_csv
from monai_ext.metrics import ClassificationResult, bootstrap_intervals, classification_metrics


class ClassificationOutputs:
    """Keeps the result that `monai_ext.metrics.ClassificationCases` left in an evaluator, and writes it.

    Args:
        class_names: names of the classes, in the order of the network's outputs.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self.class_names = list(class_names)
        self.result: ClassificationResult | None = None

    def take(self, evaluator: Engine) -> None:
        """Take over the result of the validation that has just ended."""
        self.result = evaluator.state.metric_details["classification"]

    def write(self, folder: str | Path) -> None:
        """Write ``val_{probs,preds,labels}.npy`` and ``val_predictions.csv``, rows in the same order."""
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
        write_csv(Path(folder) / "val_predictions.csv", self.result.rows())

    def metrics(self, intervals: bool = False) -> dict[str, Any]:
        """The part of ``metrics.json`` that tells of the best epoch; confidence intervals cost some seconds."""
        if self.result is None:
            return {
                "metrics": {},
                "per_class": {},
                "confusion_matrix": [],
                "intervals": {},
                "skipped": ["no validation"],
            }
        content = self.result.to_dict()
        if intervals:
            content["intervals"] = {name: list(pair) for name, pair in bootstrap_intervals(self.result).items()}
        return content

    def state_dict(self) -> dict[str, Any]:
        """Probabilities, labels and case names."""
        if self.result is None:
            return {}
        return {
            "probabilities": torch.from_numpy(self.result.probabilities),
            "labels": torch.from_numpy(self.result.labels),
            "cases": list(self.result.cases),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over `state_dict`."""
        if state:
            self.result = classification_metrics(
                state["probabilities"].numpy(), state["labels"].numpy(), self.class_names, cases=state["cases"]
            )
