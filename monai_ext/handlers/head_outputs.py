"""The predictions of a classifier with several heads, as files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai_ext.arrays import to_numpy
from monai_ext.handlers.classification_outputs import ClassificationOutputs
from monai_ext.metrics import bootstrap_intervals, head_metrics, head_results


class HeadOutputs(ClassificationOutputs):
    """`ClassificationOutputs` of what `monai_ext.metrics.HeadCases` found; intervals are those of each head's F1.

    Args:
        class_names: ``<head>/<class>``, see `monai_ext.heads.heads_of`.
    """

    def metrics(self, intervals: bool = False) -> dict[str, Any]:
        content = super().metrics()
        if intervals and self.result is not None:
            heads = head_results(self.result.probabilities, self.result.labels, self.class_names)
            found = {f"f1_{head}": bootstrap_intervals(result).get("f1") for head, result in heads.items()}
            content["intervals"] = {name: list(pair) for name, pair in found.items() if pair is not None}
        return content

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state:
            probabilities, labels = to_numpy(state["probabilities"]), to_numpy(state["labels"])
            self.result = head_metrics(probabilities, labels, self.class_names, state["cases"], state.get("columns"))
