"""Tables and sentences that several pages share, made from files that may be edited or damaged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from monai_ext.pages.document import Table, Text, cell

MOST_ROWS = 1000
# Longer tables are closed at first.
MANY_ROWS = 30
# Up to this number of classes each has a column of its own.
MANY_CLASSES = 4
NO_METRICS = Text(["There are no metrics of a best epoch: see Skipped, and why."])
NO_PREDICTIONS = Text(["There are no predictions with labels of a best epoch."])


def as_dict(value: object) -> dict[str, Any]:
    """The value itself if it is a dictionary, else an empty one: files may be edited or damaged."""
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> list[Any]:
    """The value itself if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def rows_table(heading: str, found: Mapping[str, Mapping[str, Any]], caption: str) -> Table:
    """A row for each name, with a column for each entry that any of them has.

    Args:
        heading: of the first column.
        found: name → column → cell.
        caption: of the table.
    """
    columns = list(dict.fromkeys(column for values in found.values() for column in values))
    rows = [(name, *(values.get(column) for column in columns)) for name, values in found.items()]
    return Table((heading, *columns), rows, caption=caption)


def count_table(counts: Mapping[str, Mapping[str, int]], caption: str, add_up: bool = True) -> Table:
    """Numbers of each class in each set (train, val, test); many classes as rows.

    Args:
        counts: set → class → number.
        caption: of the table.
        add_up: whether the classes add up to the number of all cases; those of multi-label data don't.
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
    """The metric of the summary: ``key_metric`` of the file, else AUC (AUROC), else the first with a value."""
    values = as_dict(metrics.get("metrics"))
    wanted: Iterable[object] = (metrics.get("key_metric"), "auc", "auroc", *values)
    return next((str(name) for name in wanted if isinstance(name, str) and values.get(name) is not None), None)


def with_interval(metrics: Mapping[str, Any], key: str) -> str:
    """Name, value and interval of the metric ``key``, with the interval's method."""
    interval = interval_text(metrics, key)
    text = f"{key} {cell(as_dict(metrics.get('metrics'))[key])}"
    return f"{text} (95 % interval {interval})" if interval else text


def interval_text(metrics: Mapping[str, Any], key: str) -> str:
    """The interval of a metric, how it was made and over what, or why there is none; empty where nothing is known.

    Args:
        metrics: with ``intervals`` and, in files of newer runs, ``interval_methods``.
        key: name of the metric.
    """
    ends = as_list(as_dict(metrics.get("intervals")).get(key))
    method = as_dict(as_dict(metrics.get("interval_methods")).get(key))
    if method.get("not_estimable"):
        return f"not estimable: {method['not_estimable']}"
    if len(ends) != 2:
        return ""
    made = f", {method.get('method')}, {method.get('n')} {method.get('unit')}" if method else ""
    return f"{cell(ends[0])} to {cell(ends[1])}{made}"


def value_and_interval(metrics: Mapping[str, Any], key: str, value: Any) -> Any:
    """A value with its interval behind it, as short as a table with many columns needs.

    Args:
        metrics: see `interval_text`.
        key: name of the metric.
        value: of the metric.
    """
    ends = as_list(as_dict(metrics.get("intervals")).get(key))
    if value is None or len(ends) != 2:
        missing = as_dict(as_dict(metrics.get("interval_methods")).get(key)).get("not_estimable")
        return f"{float(value):.3f} (not estimable)" if value is not None and missing else value
    return f"{float(value):.3f} ({ends[0]:.2f}–\N{WORD JOINER}{ends[1]:.2f})"


def as_lines(values: object) -> list[str]:
    """The texts of a list; none for anything else."""
    return [str(value) for value in as_list(values)]
