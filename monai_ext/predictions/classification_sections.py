"""Report sections of a classifier: metrics, classes, the confusion matrix, mistakes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from monai_ext.metrics.classification import ClassificationResult
from monai_ext.pages.document import Block, Folded, Table, Text
from monai_ext.pages.tables import (
    MANY_CLASSES,
    MANY_ROWS,
    MOST_ROWS,
    NO_METRICS,
    NO_PREDICTIONS,
    as_dict,
    as_list,
    interval_text,
    rows_table,
    value_and_interval,
)


def metric_blocks(metrics: Mapping[str, Any], unit: str = "cases") -> list[Block]:
    """Tables of the scalar metrics, of the classes and of the confusion matrix.

    Args:
        metrics: as in ``metrics.json``.
        unit: name of the cases.
    """
    values = as_dict(metrics.get("metrics"))
    if not values:
        return [NO_METRICS]
    header: tuple[str, ...] = ("metric", "value")
    rows: list[tuple[Any, ...]] = list(values.items())
    note = "Precision, recall and F1 are macro averages."
    if as_dict(metrics.get("intervals")) or as_dict(metrics.get("interval_methods")):
        header = (*header, "95 % interval")
        rows = [(name, value, interval_text(metrics, name)) for name, value in rows]
        note += f" Intervals cover the sampling of {unit}, not another training."
    blocks: list[Block] = [Table(header, rows, note=note)]
    per_class = {
        name: {
            metric: value_and_interval(metrics, f"{metric}/{name}", value) for metric, value in as_dict(found).items()
        }
        for name, found in as_dict(metrics.get("per_class")).items()
    }
    if per_class:
        blocks.append(rows_table("class", per_class, "By class"))
    matrix = [as_list(row) for row in as_list(metrics.get("confusion_matrix"))]
    names = [str(name) for name in as_list(metrics.get("class_names"))] or list(per_class)
    if matrix and len(names) == len(matrix):
        header = ("true class", *(f"predicted {name}" for name in names))
        rows = [(name, *row) for name, row in zip(names, matrix, strict=True)]
        table = Table(header, rows, caption=f"Confusion matrix ({unit})")
        blocks.append(table if len(names) <= MANY_CLASSES else Folded(table.caption, table))
    return blocks


def mistakes_blocks(result: ClassificationResult | None, unit: str = "cases") -> list[Block]:
    """The wrongly predicted cases, for two classes by kind of mistake."""
    if result is None:
        return [NO_PREDICTIONS]
    rows = result.rows()
    wrong = [row for row in rows if row["prediction"] != row["label"]]
    if result.false_negatives is None or result.false_positives is None:
        return [Text([f"{len(wrong)} of {len(rows)} {unit} are wrong."]), *case_tables(wrong, f"Wrong {unit}")]
    blocks: list[Block] = []
    for column, kind in (("label", result.false_negatives), ("prediction", result.false_positives)):
        found = [row for row in wrong if row[column] == result.class_names[-1]]
        title = f"{kind.count} {kind.description}"
        blocks += case_tables(found, title) or [Text([f"{title}."])]
    return blocks


def case_tables(rows: Sequence[Mapping[str, Any]], caption: str, folded: bool = False) -> list[Block]:
    """A table of rows of a prediction file; of many classes only the predicted and the true one have a probability.

    Args:
        rows: of the file.
        caption: of the table.
        folded: close the table at first even when it is short.
    """
    if not rows:
        return []
    note = f"The first {MOST_ROWS} of {len(rows)}; the prediction file has all." if len(rows) > MOST_ROWS else ""
    shown = [_narrow(row) for row in rows[:MOST_ROWS]]
    table = Table(list(shown[0]), [list(row.values()) for row in shown], caption=caption, note=note)
    return [Folded(f"{caption}: {len(rows)}", table) if folded or len(rows) > MANY_ROWS else table]


def _narrow(row: Mapping[str, Any]) -> dict[str, Any]:
    classes = [name for name in row if name.startswith("prob_")]
    if len(classes) <= MANY_CLASSES:
        return {name.replace("prob_", "p ", 1) if name in classes else name: value for name, value in row.items()}
    return {
        **{name: value for name, value in row.items() if name not in classes},
        "p of the prediction": row[f"prob_{row['prediction']}"],
        "p of the label": row[f"prob_{row['label']}"],
    }
