"""Parts that the reports of a run and of a cross-validation share: metrics, mistakes, sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from monai_ext.metrics import ClassificationResult
from monai_ext.reports.document import Block, Folded, Table, Text, cell
from monai_ext.reports.run_folder import as_dict, as_list

MOST_ROWS = 1000
# Longer tables are closed at first.
MANY_ROWS = 30
# Of more classes than that not each has a column of its own.
MANY_CLASSES = 4


def metrics_blocks(metrics: Mapping[str, Any], unit: str = "cases") -> list[Block]:
    """Tables of the single numbers, of the classes and of the confusion matrix.

    Args:
        metrics: as in ``metrics.json``.
        unit: what is counted.
    """
    values, intervals = as_dict(metrics.get("metrics")), as_dict(metrics.get("intervals"))
    if not values:
        return [Text(["There are no validation metrics."])]
    header: tuple[str, ...] = ("metric", "value")
    rows: list[tuple[Any, ...]] = list(values.items())
    per_target = {name: as_dict(found) for name, found in as_dict(metrics.get("per_target")).items()}
    note = "Dice and angles (in degrees) are pooled over all voxels that could be compared."
    if not per_target:
        note = "Precision, recall and F1 are macro averages."
    if intervals:
        header = (*header, "95 % interval")
        rows = [(name, value, interval_text(intervals.get(name))) for name, value in rows]
        note += f" Intervals: bootstrap over the {unit} within each class; they tell of the {unit}, not of another "
        note += "training."
    blocks: list[Block] = [Table(header, rows, note=note)]
    blocks += [_rows_table("target", per_target, "By target")] if per_target else []
    per_class = {name: as_dict(found) for name, found in as_dict(metrics.get("per_class")).items()}
    if per_class:
        blocks.append(_rows_table("class", per_class, "By class"))
    matrix = [as_list(row) for row in as_list(metrics.get("confusion_matrix"))]
    names = [str(name) for name in as_list(metrics.get("class_names"))] or list(per_class)
    if matrix and len(names) == len(matrix):
        header = ("true class", *(f"predicted {name}" for name in names))
        rows = [(name, *row) for name, row in zip(names, matrix, strict=True)]
        table = Table(header, rows, caption=f"Confusion matrix ({unit})")
        blocks.append(table if len(names) <= MANY_CLASSES else Folded(table.caption, table))
    return blocks


def patches_blocks(rows: Sequence[Mapping[str, Any]], worst: int = 20) -> list[Block]:
    """The patches of a validation with the largest losses.

    Args:
        rows: of a prediction file with the columns ``case`` and, where a loss was computed, ``loss``.
        worst: how many are shown.
    """
    if not rows:
        return [Text(["There are no numbers of single patches."])]
    ordered = sorted(rows, key=lambda row: -float(row.get("loss") or 0))[:worst]
    cells = [[_as_number(value) if name != "case" else value for name, value in row.items()] for row in ordered]
    caption = f"The {len(ordered)} of {len(rows)} patches with the largest loss"
    return [Table(list(ordered[0]), cells, caption=caption)]


def _rows_table(heading: str, found: Mapping[str, Mapping[str, Any]], caption: str) -> Table:
    columns = list(dict.fromkeys(column for values in found.values() for column in values))
    rows = [(name, *(values.get(column) for column in columns)) for name, values in found.items()]
    return Table((heading, *columns), rows, caption=caption)


def _as_number(text: str) -> float | str | None:
    try:
        return float(text) if text else None
    except ValueError:
        return text


def mistakes_blocks(result: ClassificationResult | None, unit: str = "cases") -> list[Block]:
    """The cases that were predicted wrongly, by kind of mistake for two classes."""
    if result is None:
        return [Text(["There are no validation predictions with labels."])]
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
    """A table of rows of a prediction file, closed at first when it is long or shall be; of many classes only the
    two that matter have a probability, the predicted and the true one.
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


def count_table(counts: Mapping[str, Mapping[str, int]], caption: str, add_up: bool = True) -> Table:
    """How many there are of each class in each part of the data; many classes below each other.

    Args:
        counts: part → class → number.
        caption: of the table.
        add_up: whether they add up to the number of all; several labels don't.
    """
    classes = list(dict.fromkeys(name for found in counts.values() for name in found))
    if len(classes) == 1:
        return Table(("part", *classes), [(part, *found.values()) for part, found in counts.items()], caption=caption)
    table = [[found.get(name, 0) for name in classes] + [sum(found.values())] * add_up for found in counts.values()]
    names = [*classes, *(["all"] * add_up)]
    if len(classes) <= MANY_CLASSES:
        rows = [(part, *row) for part, row in zip(counts, table, strict=True)]
        return Table(("part", *names), rows, caption=caption)
    rows = [(name, *column) for name, column in zip(names, zip(*table, strict=True), strict=True)]
    return Table(("class", *counts), rows, caption=caption)


def key_metric(metrics: Mapping[str, Any]) -> str | None:
    """The metric that the summary shows: ``key_metric`` of the file, else AUC (AUROC), else the first with a value."""
    values = as_dict(metrics.get("metrics"))
    wanted: Iterable[object] = (metrics.get("key_metric"), "auc", "auroc", *values)
    return next((str(name) for name in wanted if isinstance(name, str) and values.get(name) is not None), None)


def with_interval(metrics: Mapping[str, Any], key: str) -> str:
    interval = interval_text(as_dict(metrics.get("intervals")).get(key))
    text = f"{key} {cell(as_dict(metrics.get('metrics'))[key])}"
    return f"{text} (95 % interval {interval})" if interval else text


def interval_text(interval: object) -> str:
    """The ends of an interval, as a file has them, in words; empty where there is none."""
    ends = list(interval) if isinstance(interval, (list, tuple)) else []
    return f"{cell(ends[0])} to {cell(ends[1])}" if len(ends) == 2 else ""


def as_lines(values: object) -> list[str]:
    return [str(value) for value in as_list(values)]
