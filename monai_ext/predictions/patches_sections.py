"""Report sections of patches with several targets: metrics by target, the patches with the largest losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from monai_ext.pages.document import Block, Table, Text
from monai_ext.pages.tables import NO_METRICS, as_dict, rows_table


def metric_blocks(metrics: Mapping[str, Any]) -> list[Block]:
    """Tables of the scalar metrics and of the targets.

    Args:
        metrics: as in ``metrics.json``.
    """
    values = as_dict(metrics.get("metrics"))
    if not values:
        return [NO_METRICS]
    note = "Dice and angles (in degrees) are pooled over all voxels that could be compared."
    per_target = {name: as_dict(found) for name, found in as_dict(metrics.get("per_target")).items()}
    blocks: list[Block] = [Table(("metric", "value"), list(values.items()), note=note)]
    return [*blocks, rows_table("target", per_target, "By target")] if per_target else blocks


def patches_blocks(rows: Sequence[Mapping[str, Any]], worst: int = 20) -> list[Block]:
    """The patches of a validation with the largest losses.

    Args:
        rows: of a prediction file with the columns ``case`` and, where a loss was computed, ``loss``.
        worst: number of patches.
    """
    if not rows:
        return [Text(["There are no scores of single patches."])]
    ordered = sorted(rows, key=lambda row: -float(row.get("loss") or 0))[:worst]
    cells = [[_as_number(value) if name != "case" else value for name, value in row.items()] for row in ordered]
    caption = f"The {len(ordered)} of {len(rows)} patches with the largest loss"
    return [Table(list(ordered[0]), cells, caption=caption)]


def _as_number(text: str) -> float | str | None:
    try:
        return float(text) if text else None
    except ValueError:
        return text
