"""Report sections of a multi-label classifier: metrics by class with intervals, the worst mistakes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from monai_ext.metrics.multi_label import MultiLabelResult
from monai_ext.pages.document import Block, Folded, Table, Text, cell
from monai_ext.pages.tables import MOST_ROWS, NO_METRICS, NO_PREDICTIONS, as_dict, interval_text, value_and_interval

TUNED = "_tuned"
_RANKED = ("auroc", "average_precision")
_DECIDED = ("f1", "precision", "recall", "accuracy")


def metric_blocks(metrics: Mapping[str, Any], unit: str = "cases") -> list[Block]:
    """Tables of the averages, of the classes at their thresholds, and of the classes at 0.5.

    Args:
        metrics: as in ``metrics.json``.
        unit: name of the cases.
    """
    values = as_dict(metrics.get("metrics"))
    if not values:
        return [NO_METRICS]
    per_class = {name: as_dict(found) for name, found in as_dict(metrics.get("per_class")).items()}
    blocks: list[Block] = [_averages(metrics, unit)]
    if any(TUNED in name for name in values):
        note = "Thresholds are those of the checkpoint."
        if metrics.get("thresholds_chosen_here"):
            note = f"Thresholds were chosen on these {unit}, for the best F1 of each class, so that scores at them are "
            note += "slightly optimistic; they are saved with the network."
        blocks += [Text([note]), _by_class(per_class, metrics, TUNED, "By class, at its threshold")]
        at_half = _by_class(per_class, metrics, "", "By class, at 0.5")
        blocks.append(Folded(at_half.caption, at_half))
    elif per_class:
        blocks.append(_by_class(per_class, metrics, "", "By class, at 0.5"))
    return blocks


def mistakes_blocks(result: MultiLabelResult | None, unit: str = "cases", most: int = 5) -> list[Block]:
    """The most certain mistakes of each class: missed cases with the lowest probabilities, false alarms with the
    highest.

    Args:
        result: of the cases.
        unit: name of the cases.
        most: number of cases of each kind.
    """
    if result is None:
        return [NO_PREDICTIONS]
    wrong = result.predictions != result.labels
    right = int((~wrong.any(axis=1)).sum())
    return [
        Text([f"{right} of {len(wrong)} {unit} have no wrong label."]),
        *(_mistakes(result, number, wrong[:, number], most) for number in np.flatnonzero(wrong.any(axis=0)).tolist()),
    ]


def case_table(result: MultiLabelResult, unit: str) -> Folded:
    """The labelled and the predicted classes of each case, by name."""
    rows = [
        (case, _named(result, labels), _named(result, predicted), int((labels != predicted).sum()))
        for case, labels, predicted in zip(_cases(result), result.labels, result.predictions, strict=True)
    ]
    note = f"The first {MOST_ROWS} of {len(rows)}; the prediction file has all." if len(rows) > MOST_ROWS else ""
    caption = f"Validation {unit}"
    table = Table(("case", "labelled", "predicted", "wrong labels"), rows[:MOST_ROWS], caption=caption, note=note)
    return Folded(f"{caption}: {len(rows)}", table)


def _averages(metrics: Mapping[str, Any], unit: str) -> Table:
    values = as_dict(metrics.get("metrics"))
    intervals = as_dict(metrics.get("intervals")) or as_dict(metrics.get("interval_methods"))
    tuned = any(name.endswith(TUNED) for name in values)
    header = ["metric", "at 0.5", *(["95 % interval"] if intervals else [])]
    header += ["at the thresholds", *(["95 % interval"] if intervals else [])] if tuned else []
    rows = []
    for name in (name for name in values if not name.endswith(TUNED)):
        row: list[Any] = [name]
        for key in (name, name + TUNED) if tuned else (name,):
            row += [values.get(key, ""), *([interval_text(metrics, key)] if intervals else [])]
        rows.append(row)
    note = "auroc, average_precision, f1, precision, recall and accuracy are macro averages over the classes that have "
    note += "scores; hamming is the fraction of wrong labels, exact_match of cases without any. Losses and areas "
    note += "have no threshold."
    if intervals:
        note += f" Intervals cover the sampling of {unit}, not another training."
    return Table(header, rows, note=note)


def _by_class(
    per_class: Mapping[str, Mapping[str, Any]], metrics: Mapping[str, Any], suffix: str, caption: str
) -> Table:
    columns = [*_RANKED, *(f"{name}{suffix}" for name in _DECIDED)]
    extra = ["threshold"] if suffix else []
    rows = [
        (
            name,
            found.get("support"),
            *(found.get(column) for column in extra),
            *(value_and_interval(metrics, f"{column}/{name}", found.get(column)) for column in columns),
        )
        for name, found in per_class.items()
    ]
    names = [column.removesuffix(TUNED).replace("_", " ") for column in columns]
    return Table(("class", "positive", *extra, *names), rows, caption=caption)


def _mistakes(result: MultiLabelResult, number: int, wrong: np.ndarray, most: int) -> Folded:
    scores, labels = result.probabilities[:, number], result.labels[:, number]
    missed, alarms = np.flatnonzero(wrong & labels), np.flatnonzero(wrong & ~labels)
    shown = [
        *((case, "missed") for case in missed[np.argsort(scores[missed], kind="stable")][:most]),
        *((case, "false alarm") for case in alarms[np.argsort(-scores[alarms], kind="stable")][:most]),
    ]
    cases = _cases(result)
    rows = [(cases[case], kind, float(scores[case])) for case, kind in shown]
    name = result.class_names[number]
    cut = 0.5 if result.thresholds is None else result.thresholds[number]
    note = f"The most certain ones; the threshold is {cell(cut)}."
    table = Table(("case", "mistake", "probability"), rows, caption=name, note=note)
    return Folded(f"{name}: {len(missed)} missed, {len(alarms)} false alarms", table)


def _named(result: MultiLabelResult, present: np.ndarray) -> str:
    return ", ".join(name for name, there in zip(result.class_names, present, strict=True) if there) or "none"


def _cases(result: MultiLabelResult) -> list[str]:
    return result.cases or [str(number) for number in range(len(result.labels))]
