"""What CLAIM and TRIPOD+AI ask of a paper and a program can know, and what only a person can write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from monai_ext.metrics.calibration import calibration_line
from monai_ext.pages.document import Block, Folded, Section, Table, Text, cell
from monai_ext.pages.tables import as_dict, as_lines, as_list

# Items of both lists that no record of a training can answer.
FOR_THE_AUTHORS = (
    "Study question, intended use, and the place of the model in care",
    "Ethics approval, consent, registration and protocol of the study",
    "Where, when and how cases were recruited; inclusion and exclusion before these data were made",
    "Imaging: scanners, protocols, contrast; how data were anonymised",
    "Reference standard: who labelled, by what definition, with what agreement between readers",
    "Why this number of cases is enough",
    "Demographic and clinical characteristics that are not in the data",
    "External testing: data of other places or times",
    "Comparison with clinicians or with existing models, and the consequences of mistakes",
    "Fairness: which subgroups matter, and why",
    "Limitations, generalisability, funding, conflicts of interest, availability of data and code",
)
_PARTS = {"train": "training", "inner": "inner part (choice of the epoch)", "val": "validated fold", "test": "test"}


def checklist_section(info: Mapping[str, Any], metrics: Mapping[str, Any], result: Any, unit: str) -> Section:
    """The answers of a run.

    Args:
        info: ``run.json``.
        metrics: ``metrics.json``.
        result: of the prediction file; ``None`` without one.
        unit: name of the cases.
    """
    data, parameters = as_dict(info.get("data")), as_dict(info.get("parameters"))
    rows = [
        ("Flow of cases", _flow(data, unit)),
        ("Characteristics by part", "See Data: cases of each class in each part."),
        ("Independence of parts", _independence(data)),
        ("Choice of the epoch", _choice_of_epoch(metrics)),
        ("Choice of thresholds", thresholds(metrics)),
        ("Uncertainty", uncertainty(metrics)),
        ("Calibration", calibration(result)),
        ("Subgroups", "See Subgroups."),
        ("Failures", "See the wrong predictions above, and Skipped, and why."),
        ("Missing or unusable data", "; ".join(as_lines(data.get("left_out"))) or "No case was left out."),
        ("Software", ", ".join(f"{name} {version}" for name, version in as_dict(info.get("versions")).items())),
        ("Seeds", f"seed {parameters['seed']}" if "seed" in parameters else "not recorded"),
        ("Code and settings", f"commit {info.get('commit') or 'not recorded'}; see Hyper-parameters"),
    ]
    return Section("Reporting checklist", checklist_blocks(rows))


def checklist_blocks(rows: list[tuple[str, Any]]) -> list[Block]:
    """Table of the answers, and the items for the authors.

    Args:
        rows: item and answer.
    """
    note = "What CLAIM (2024) and TRIPOD+AI (2024) ask and the records of the training can answer."
    others = Table(("item", "answer"), [(item, "to be written by the authors") for item in FOR_THE_AUTHORS])
    return [Text([note]), Table(("item", "answer"), rows), Folded("Items that only a person can write", others)]


def thresholds(metrics: Mapping[str, Any]) -> str:
    """Where the thresholds of the decisions come from, in a sentence."""
    chosen = metrics.get("thresholds_chosen_on", "these cases" if metrics.get("thresholds_chosen_here") else None)
    if chosen is None and metrics.get("thresholds") and "thresholds_chosen_on" not in metrics:
        return "On which cases they were chosen is not recorded."
    if chosen is None:
        return "None was chosen: the most probable class, or a probability of one half."
    optimistic = ", so that scores at them are optimistic" if chosen == "these cases" else ""
    return f"Chosen on {chosen}{optimistic}."


def uncertainty(metrics: Mapping[str, Any]) -> str:
    """Methods and units of the intervals, and how many metrics have none, in a sentence."""
    methods = [as_dict(each) for each in as_dict(metrics.get("interval_methods")).values()]
    made = {f"{each.get('method')} over {each.get('unit')}" for each in methods if not each.get("not_estimable")}
    missing = sum(bool(each.get("not_estimable")) for each in methods)
    if not methods:
        count = len(as_dict(metrics.get("intervals")))
        return f"95 % intervals of {count} metrics, by a method not recorded." if count else "There are no intervals."
    text = f"95 % intervals: {', '.join(sorted(made)) or 'none'}"
    return f"{text}; {missing} metrics have none, for the reason beside them." if missing else f"{text}."


def calibration(result: Any) -> str:
    """Slope and intercept of the probabilities of two classes, or of each label, in a sentence."""
    probabilities, labels = getattr(result, "probabilities", None), getattr(result, "labels", None)
    if probabilities is None or labels is None or not np.isfinite(probabilities).all():
        return "Not applicable."
    if labels.ndim == 1:
        if len(result.class_names) != 2:
            return "See the calibration curves; slope and intercept are for two classes."
        columns = {result.class_names[1]: (probabilities[:, 1], labels)}
    else:
        columns = {name: (probabilities[:, n], labels[:, n]) for n, name in enumerate(result.class_names)}
    lines = []
    for name, (scores, truth) in columns.items():
        if 0 < truth.sum() < len(truth):
            line = calibration_line(scores, truth)
            slope = "not estimable (classes are separated)" if line["slope"] is None else cell(line["slope"])
            lines.append(f"{name}: slope {slope}, intercept {cell(line['intercept'])}, Brier {cell(line['brier'])}")
    return "; ".join(lines) + "; 1 and 0 are perfect." if lines else "Not estimable: all cases have the same label."


def _choice_of_epoch(metrics: Mapping[str, Any]) -> str:
    if not metrics.get("history"):
        return "An evaluation: no epoch was chosen here."
    chosen = as_dict(metrics.get("selection")).get("sentence")
    return str(chosen or f"Epoch {metrics.get('best_epoch')}; how it was chosen is not recorded.")


def _flow(data: Mapping[str, Any], unit: str) -> str:
    items, patients = as_dict(data.get("sizes")), as_dict(data.get("patients"))
    if not items:
        return "not recorded"
    left = len(as_list(data.get("left_out")))
    parts = [
        f"{_PARTS.get(part, part)} {count}" + (f" ({patients[part]} patients)" if part in patients else "")
        for part, count in items.items()
    ]
    return f"{sum(items.values())} {unit} used: {', '.join(parts)}; {left} remarks on what was left out, see below."


def _independence(data: Mapping[str, Any]) -> str:
    shared = data.get("shared_patients")
    if shared is None:
        return "Not known: the data name no patients; cases were split whole."
    return "No patient is in two parts." if not shared else f"{shared} patients are in two parts: figures are too good."
