"""The predictions of a network for one mask a slice, in numbers: the masks themselves are too large to be kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from ignite.engine import Engine

from monai_ext.handlers.history import validation_name
from monai_ext.io import write_csv
from monai_ext.metrics import SegmentationResult, SliceRecord, segmentation_intervals

SLICES = "val_slices.csv"
PATIENTS = "val_patients.csv"


class SegmentationOutputs:
    """Keeps the result that `monai_ext.metrics.SegmentationCases` left in an evaluator, and writes it.

    Args:
        name: of what the mask shows, for metadata and reports.

    Attributes:
        result: ``None`` before the first validation.
    """

    cases: str | None = "slices"
    parts: str | None = None

    def __init__(self, name: str = "lesion") -> None:
        self.name = name
        self.result: SegmentationResult | None = None

    def take(self, evaluator: Engine) -> None:
        """Take over the result of the validation that has just ended."""
        self.result = evaluator.state.metric_details["segmentation"]

    def for_checkpoint(self, evaluator: Engine) -> dict[str, Any]:
        """Nothing beside the network."""
        return {}

    def write(self, folder: str | Path) -> None:
        """Write ``val_slices.csv`` and ``val_patients.csv``: scores, losses and pixels of each slice and patient."""
        if self.result is not None:
            write_csv(Path(folder) / SLICES, self.result.rows())
            write_csv(Path(folder) / PATIENTS, self.result.patient_rows())

    def metrics(self, intervals: bool = False) -> dict[str, Any]:
        """The part of ``metrics.json`` that tells of the best epoch; ``intervals`` are over patients.

        ``task`` is ``"segmentation"``, by which reports know it, ``target`` the name of what the mask shows.
        """
        found: dict[str, Any] = {"task": "segmentation", "target": self.name, "cases": self.cases}
        found |= {"per_class": {}, "confusion_matrix": [], "intervals": {}}
        if self.result is None:
            return {**found, "metrics": {}, "skipped": ["no validation"]}
        found["metrics"] = {validation_name(name): value for name, value in self.result.metrics.items()}
        found |= {"skipped": self.result.skipped, "predictions": f"predictions/{SLICES}"}
        if intervals:
            found["intervals"] = {name: list(pair) for name, pair in segmentation_intervals(self.result).items()}
        return found

    def report(self) -> None:
        """There is no text beside the metrics."""

    def plots(self) -> dict[str, Any]:
        """Dice of slices and patients."""
        return {"result": self.result, "cases": self.cases}

    def formats(self, formats: Mapping[str, Any], image_shape: Sequence[int]) -> dict[str, Any]:
        """One channel of the image's size."""
        mask = {"num_channels": 1, "spatial_shape": list(image_shape[1:]), "channel_def": {"0": self.name}}
        return {**formats, "pred": {**formats["pred"], **mask}}

    def state_dict(self) -> dict[str, Any]:
        """The records of the slices, column by column."""
        if self.result is None:
            return {}
        columns = [column.name for column in fields(SliceRecord)]
        return {name: [getattr(each, name) for each in self.result.slices] for name in columns}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over `state_dict`."""
        if state:
            rows = zip(*state.values(), strict=True)
            self.result = SegmentationResult([SliceRecord(**dict(zip(state, row, strict=True))) for row in rows])
