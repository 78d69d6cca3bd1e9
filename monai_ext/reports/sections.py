"""Parts that the reports of a run and of a cross-validation share: metrics, mistakes, sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from monai_ext.metrics import ClassificationResult
from monai_ext.reports.document import Block, Table, Text, cell
from monai_ext.reports.run_folder import as_dict, as_list

MOST_ROWS = 1000


def metrics_blocks(metrics: Mapping[str, Any]) -> list[Block]:
    """Tables of the single numbers, of the classes and of the confusion matrix."""
    values, intervals = as_dict(metrics.get("metrics")), as_dict(metrics.get("intervals"))
    if not values:
        return [Text(["There are no validation metrics."])]
    blocks: list[Block] = [
        Table(
            ("metric", "value", "95 % interval"),
            [(name, value, _interval(intervals.get(name))) for name, value in values.items()],
            note="Precision, recall and F1 are macro averages. Intervals: bootstrap over the cases within each class; "
            "they tell of the cases, not of another training.",
        )
    ]
    per_class = {name: as_dict(found) for name, found in as_dict(metrics.get("per_class")).items()}
    if per_class:
        columns = list(dict.fromkeys(column for found in per_class.values() for column in found))
        rows = [(name, *(found.get(column) for column in columns)) for name, found in per_class.items()]
        blocks.append(Table(("class", *columns), rows, caption="By class"))
    matrix = [as_list(row) for row in as_list(metrics.get("confusion_matrix"))]
    names = [str(name) for name in as_list(metrics.get("class_names"))] or list(per_class)
    if matrix and len(names) == len(matrix):
        header = ("true class", *(f"predicted {name}" for name in names))
        rows = [(name, *row) for name, row in zip(names, matrix, strict=True)]
        blocks.append(Table(header, rows, caption="Confusion matrix (cases)"))
    return blocks


def mistakes_blocks(result: ClassificationResult | None) -> list[Block]:
    if result is None:
        return [Text(["There are no validation predictions with labels."])]
    rows = result.rows()
    wrong = [row for row in rows if row["prediction"] != row["label"]]
    if result.false_negatives is None or result.false_positives is None:
        return [Text([f"{len(wrong)} of {len(rows)} cases are wrong."]), *case_tables(wrong, "Wrong cases")]
    blocks: list[Block] = []
    for column, kind in (("label", result.false_negatives), ("prediction", result.false_positives)):
        found = [row for row in wrong if row[column] == result.class_names[-1]]
        title = f"{kind.count} {kind.description}"
        blocks += case_tables(found, title) or [Text([f"{title}."])]
    return blocks


def case_tables(rows: Sequence[Mapping[str, Any]], caption: str) -> list[Block]:
    if not rows:
        return []
    note = f"The first {MOST_ROWS} of {len(rows)}; the prediction file has all." if len(rows) > MOST_ROWS else ""
    header = [name.replace("prob_", "p ", 1) if name.startswith("prob_") else name for name in rows[0]]
    return [Table(header, [list(row.values()) for row in rows[:MOST_ROWS]], caption=caption, note=note)]


def key_metric(metrics: Mapping[str, Any]) -> str | None:
    """The metric that the summary shows: ``key_metric`` of the file, else AUC, else the first with a value."""
    values = as_dict(metrics.get("metrics"))
    wanted: Iterable[object] = (metrics.get("key_metric"), "auc", *values)
    return next((str(name) for name in wanted if isinstance(name, str) and values.get(name) is not None), None)


def with_interval(metrics: Mapping[str, Any], key: str) -> str:
    interval = _interval(as_dict(metrics.get("intervals")).get(key))
    text = f"{key} {cell(as_dict(metrics.get('metrics'))[key])}"
    return f"{text} (95 % interval {interval})" if interval else text


def _interval(interval: object) -> str:
    ends = list(interval) if isinstance(interval, (list, tuple)) else []
    return f"{cell(ends[0])} to {cell(ends[1])}" if len(ends) == 2 else ""


def as_lines(values: object) -> list[str]:
    return [str(value) for value in as_list(values)]
