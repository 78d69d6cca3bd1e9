"""Predictions of one mask per slice, as counts and scores: the masks themselves are too large to keep."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from monai.metrics import get_confusion_matrix

from monai_ext.errors import ConfigError, DataError
from monai_ext.metrics.intervals import interval_entries
from monai_ext.metrics.segmentation import SegmentationResult, SliceRecord, segmentation_intervals
from monai_ext.pages.document import Block, Section
from monai_ext.predictions import masks_figures, masks_sections
from monai_ext.predictions.kind import NO_BEST, Predictions, Validation, validation_name
from monai_ext.predictions.reading import filled_rows, number
from monai_ext.predictions.writing import Files

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SLICES = "val_slices.csv"
PATIENTS = "val_patients.csv"


class Masks(Predictions):
    """Predicted masks of slices, compared with the true ones; see `Predictions`.

    The evaluator's output has logits (1, Y, X) in ``pred`` (or a dict with them as ``cord``, see
    `monai_ext.networks.CordUNet`) and a mask (1, Y, X) of 0 and 1 in ``label``; the batch also ``patient``. ``dice`` is
    the mean over the slices with a mask; those without are counted.

    Args:
        loss: called as ``loss(logits (1, 1, Y, X), mask (1, 1, Y, X))`` for each slice by itself, with the whole dict
            where the output is one; the metric ``loss`` is the mean over the slices.
        key: see `Predictions`.
        threshold: least probability at which a pixel is predicted to be in the mask, between 0 and 1.
        name: of the structure in the mask, for metadata and reports.

    Raises:
        ConfigError: for another ``key`` or ``threshold``.

    Example:
        >>> SupervisedEvaluator(..., key_val_metric={"dice": Masks(DiceLoss(sigmoid=True))})
    """

    task = "segmentation"
    needed = ("pred", "label", "case", "patient", "index")
    alternatives = masks_figures.ALTERNATIVES
    by_class = False
    previews = True

    def __init__(
        self,
        loss: Callable[[Any, torch.Tensor], torch.Tensor] | None = None,
        key: str = "dice",
        threshold: float = 0.5,
        name: str = "lesion",
    ) -> None:
        super().__init__(list(SegmentationResult([]).metrics), key, loss, cases="slices")
        if not 0 < threshold < 1:
            raise ConfigError(f"Masks: threshold must lie between 0 and 1, got {threshold!r}")
        self.threshold = threshold
        self.name = name

    def record(self, item: Mapping[str, Any]) -> SliceRecord:
        """Loss and pixel counts of a slice, computed on the device of its tensors.

        Args:
            item: with ``pred``, ``label``, ``case``, ``patient`` and ``index``.

        Raises:
            DataError: when prediction and mask aren't tensors of the same shape (1, Y, X).
        """
        pred, mask = item["pred"], item["label"]
        logits = pred["cord"] if isinstance(pred, Mapping) else pred
        shapes = [list(each.shape) if torch.is_tensor(each) else type(each).__name__ for each in (logits, mask)]
        if shapes[0] != shapes[1] or len(shapes[0]) != 3 or shapes[0][0] != 1:
            raise DataError(
                f"Masks: expected pred and label of the same shape (1, Y, X) for case {item['case']}, "
                f"got {shapes[0]} and {shapes[1]}"
            )
        # a batch of one; half precision would round probabilities to the threshold
        logits, mask = logits[None].float(), mask[None].float()
        whole = {name: each[None].float() for name, each in pred.items()} if isinstance(pred, Mapping) else logits
        predicted, true = torch.sigmoid(logits) >= self.threshold, mask > 0.5
        hits, alarms, _, misses = get_confusion_matrix(predicted.float(), true.float()).flatten().tolist()
        unknown = 0.0 if torch.isfinite(logits).all() else math.nan
        return SliceRecord(
            number=int(item["index"]),
            name=str(item["case"]),
            patient=str(item["patient"]),
            loss=None if self.loss is None else float(self.loss(whole, mask)),
            overlap=hits + unknown,
            predicted=hits + alarms + unknown,
            true=hits + misses,
        )

    def judged(self, records: Sequence[SliceRecord]) -> Validation:
        return Validation(SegmentationResult(records))

    # -- the best epoch ------------------------------------------------------------------------------------------

    def nonfinite(self) -> list[str]:
        return [each.name for each in self.best.slices if not each.is_finite]

    def best_files(self) -> Files:
        """``val_slices.csv`` and ``val_patients.csv``: scores, losses and pixels of each slice and patient."""
        return _files(self.best)

    def metrics(self, intervals: bool = False) -> dict[str, Any]:
        """The part of ``metrics.json`` about the best epoch; ``target`` is the name of the structure in the mask.

        Args:
            intervals: compute 95 % confidence intervals too, by a bootstrap over patients.
        """
        found: dict[str, Any] = {"task": self.task, "target": self.name, "cases": self.cases}
        found |= {"per_class": {}, "confusion_matrix": [], "intervals": {}}
        if self.best is None:
            return {**found, "metrics": {}, "skipped": [NO_BEST]}
        found["metrics"] = {validation_name(name): value for name, value in self.best.metrics.items()}
        found |= {"skipped": self.best.skipped, "predictions": f"predictions/{SLICES}"}
        if intervals:
            found |= interval_entries(segmentation_intervals(self.best))
        return found

    def formats(self, formats: Mapping[str, Any], image_shape: Sequence[int]) -> dict[str, Any]:
        """Formats with one channel of the image's size.

        Args:
            formats: outputs of the bundle's ``metadata.json``, with ``pred``.
            image_shape: (C, Y, X) of the input.
        """
        mask = {"num_channels": 1, "spatial_shape": list(image_shape[1:]), "channel_def": {"0": self.name}}
        return {**formats, "pred": {**formats["pred"], **mask}}

    def best_state(self) -> dict[str, Any]:
        """The records of the slices, column by column."""
        if self.best is None:
            return {}
        columns = [column.name for column in fields(SliceRecord)]
        return {name: [getattr(each, name) for each in self.best.slices] for name in columns}

    def restore(self, state: Mapping[str, Any]) -> None:
        if state:
            rows = zip(*state.values(), strict=True)
            self.best = SegmentationResult([SliceRecord(**dict(zip(state, row, strict=True))) for row in rows])

    # -- new cases -----------------------------------------------------------------------------------------------

    def predicted(self, records: Sequence[SliceRecord]) -> Files:
        """The same files as of a validation; predicted masks themselves have another writer.

        Args:
            records: of all slices.
        """
        return _files(SegmentationResult(records))

    # -- reports -------------------------------------------------------------------------------------------------

    @classmethod
    def read(cls, path: Path, metrics: Mapping[str, Any]) -> SegmentationResult:
        """Result from a file with one row per slice, see `SegmentationResult.rows`.

        Args:
            path: CSV of the slices.
            metrics: ``metrics.json``; not used.

        Raises:
            DataError: naming the file, for a missing column or a value that is no number.
        """
        pixels = ["overlap_pixels", "predicted_pixels", "true_pixels"]
        return SegmentationResult(
            [
                SliceRecord(
                    position,
                    row["case"],
                    row["patient"],
                    number(row, "loss", path) if row.get("loss") else None,
                    # empty where an older version wrote a slice whose prediction wasn't finite
                    *(number(row, name, path) if row.get(name) else math.nan for name in pixels),
                )
                for position, row in enumerate(filled_rows(path, ["case", "patient", "true_pixels"]))
            ]
        )

    @classmethod
    def figures(cls, result: SegmentationResult, cases: str | None = None) -> dict[str, Figure]:
        return masks_figures.figures(result)

    @classmethod
    def metric_blocks(cls, metrics: Mapping[str, Any], unit: str) -> list[Block]:
        return masks_sections.metric_blocks(metrics)

    @classmethod
    def sections(cls, result: SegmentationResult | None, unit: str) -> list[Section]:
        blocks = [*masks_sections.patients_blocks(result), *masks_sections.slices_blocks(result)]
        return [Section("Patients and slices", blocks)]


def _files(result: SegmentationResult) -> Files:
    return Files(tables={SLICES: result.rows(), PATIENTS: result.patient_rows()})
