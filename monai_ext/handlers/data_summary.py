"""Dataset summary of a run: items per class, and a hash that identifies the data."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from numbers import Number
from typing import Any

import numpy as np

from monai_ext.arrays import to_numpy

Data = Mapping[str, Sequence[Mapping[str, Any]]]


def dataset_hash(data: Data) -> str:
    """A hash of cases, labels, file sizes and times, and positions of instances, section by section.

    A section ``test`` doesn't count: no training depends on it.
    """
    content = {section: [_identity(item) for item in items] for section, items in data.items() if section != "test"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def count_labels(data: Data, class_names: Sequence[str]) -> dict[str, dict[str, int]]:
    """Items per class in every section, of multi-label items the positive ones; without class names, all items."""
    if not class_names:
        return {section: {"cases": len(items)} for section, items in data.items()}
    counters = {section: Counter(c for item in items for c in _classes(item)) for section, items in data.items()}
    return {
        section: {name: counter[index] for index, name in enumerate(class_names)}
        for section, counter in counters.items()
    }


def patient_counts(data: Data) -> dict[str, Any]:
    """Number of cases in every section as ``sizes``; where all items name their ``patient``, the number of these as
    ``patients``, and of those in two sections as ``shared_patients``."""
    sizes = {"sizes": {section: len(items) for section, items in unique_cases(data).items()}}
    if not all("patient" in item for items in data.values() for item in items):
        return sizes
    patients = {section: {str(item["patient"]) for item in items} for section, items in data.items()}
    everywhere = Counter(patient for found in patients.values() for patient in found)
    return {
        **sizes,
        "patients": {section: len(found) for section, found in patients.items()},
        "shared_patients": sum(count > 1 for count in everywhere.values()),
    }


def described_datasets(
    bundle: str | None, data: Data, settings: Mapping[str, Any], class_names: Sequence[str]
) -> list[dict[str, str]]:
    """The sections of the data that aren't empty, for `MLflowTracker.inputs`.

    Args:
        bundle: name of the bundle.
        data: section → data items.
        settings: of the run, of which ``dataset_dir`` is the source.
        class_names: names of the labels.
    """
    counts, sizes = count_labels(data, class_names), patient_counts(data)["sizes"]
    return [
        {
            "name": f"{bundle or 'data'} {section}",
            "digest": dataset_hash({"": items}),
            "source_type": "local",
            "source": json.dumps({"uri": str(settings.get("dataset_dir", ""))}),
            "profile": json.dumps({"num_rows": len(items), "num_cases": sizes[section], "counts": counts[section]}),
            "context": section,
        }
        for section, items in data.items()
        if items
    ]


def label_cells(item: Mapping[str, Any], class_names: Sequence[str], column: str) -> dict[str, Any]:
    """The label of an item for a table: the name of its class under ``column``, or 0 or 1 under each name."""
    present = set(_classes(item))
    if np.ndim(item["label"]):
        return {name: int(index in present) for index, name in enumerate(class_names)}
    return {column: class_names[present.pop()]}


def unique_cases(data: Data) -> dict[str, list[Mapping[str, Any]]]:
    """The first item of each case in every section: an item may be an instance (a crop, a slice) of its case."""
    found: dict[str, dict[Any, Mapping[str, Any]]] = {section: {} for section in data}
    for section, items in data.items():
        for number, item in enumerate(items):
            found[section].setdefault(item.get("case", number), item)
    return {section: list(cases.values()) for section, cases in found.items()}


def _classes(item: Mapping[str, Any]) -> list[int]:
    """Numbers of the classes that an item has: its label, or its positive labels if multi-label."""
    label = item["label"]
    return np.flatnonzero(to_numpy(label) > 0).tolist() if np.ndim(label) else [int(label)]


def _identity(item: Mapping[str, Any]) -> list[Any]:
    known = [item.get("case"), item.get("label"), item.get("stamp")]
    # The numbers of an item distinguish it from other instances of its case, such as a crop's position.
    position = {name: item[name] for name in item if name != "label" and isinstance(item[name], Number)}
    return [*known, position] if position else known
