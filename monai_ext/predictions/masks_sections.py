"""Report sections of masks: metrics with their definitions, patients, the worst slices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai_ext.metrics.segmentation import SegmentationResult
from monai_ext.pages.document import Block, Folded, Table, Text
from monai_ext.pages.tables import MANY_ROWS, MOST_ROWS, NO_METRICS, as_dict, interval_text

_MEANING = {
    "dice": "mean over the slices with a mask",
    "iou": "intersection over union, all pixels of all slices",
    "precision": "fraction of the predicted pixels that are in the mask",
    "recall": "fraction of the pixels of the mask that are predicted",
    "pooled_dice": "all pixels of all slices",
    "patient_dice": "mean over the patients with a mask of the Dice of all their pixels",
    "empty_slices": "number of slices without a mask, which don't count in the means",
    "false_positive_slices": "of these, number of slices where something is predicted",
    "train_loss": "mean over the training samples",
    "val_loss": "mean over all slices, each by itself",
}


def metric_blocks(metrics: Mapping[str, Any]) -> list[Block]:
    """The table of metrics with their definitions and intervals.

    Args:
        metrics: as in ``metrics.json``.
    """
    values = as_dict(metrics.get("metrics"))
    if not values:
        return [NO_METRICS]
    if not as_dict(metrics.get("intervals")) and not as_dict(metrics.get("interval_methods")):
        return [
            Table(("metric", "value", ""), [(name, value, _MEANING.get(name, "")) for name, value in values.items()])
        ]
    header = ("metric", "value", "95 % interval", "")
    rows = [(name, value, interval_text(metrics, name), _MEANING.get(name, "")) for name, value in values.items()]
    note = "Intervals cover the sampling of patients, not another training."
    return [Table(header, rows, note=note)]


def patients_blocks(result: SegmentationResult | None) -> list[Block]:
    """The patients, those with the lowest Dice first."""
    if result is None:
        return []
    found = sorted(result.patient_rows(), key=lambda row: _dice(row["dice"]))
    return [_folded(found, "Patients, the lowest Dice first")]


def slices_blocks(result: SegmentationResult | None, worst: int = 20) -> list[Block]:
    """The slices with the lowest Dice among those with a mask, and the largest false alarms among those without.

    Args:
        result: of the slices.
        worst: number of slices of each kind.
    """
    if result is None:
        return [Text(["There are no scores of single slices."])]
    rows = result.rows()
    masked = sorted((row for row in rows if row["true_pixels"]), key=lambda row: _dice(row["dice"]))
    alarms = sorted(
        (row for row in rows if not row["true_pixels"] and row["predicted_pixels"]),
        key=lambda row: -row["predicted_pixels"],
    )
    blocks: list[Block] = []
    for found, kind in ((masked, "slices with a mask with the lowest Dice"), (alarms, "largest false alarms")):
        if found:
            blocks.append(_table(found[:worst], f"The {min(worst, len(found))} of {len(found)} {kind}"))
    return blocks or [Text(["No slice has a mask, and nothing was predicted."])]


def _folded(rows: list[dict[str, Any]], caption: str) -> Block:
    table = _table(rows[:MOST_ROWS], caption)
    return Folded(f"{caption}: {len(rows)}", table) if len(rows) > MANY_ROWS else table


def _table(rows: list[dict[str, Any]], caption: str) -> Table:
    return Table(list(rows[0]), [list(row.values()) for row in rows], caption=caption)


def _dice(value: float | None) -> float:
    """Sort key; a score that isn't finite is the worst."""
    return -1.0 if value is None else value
