"""The part of ``check`` that runs a bundle's own preparation and looks at what the network would get."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai_ext.data.problems import Problem
from monai_ext.errors import UserError


def all_checks(checks: Mapping[str, PreparedCheck]) -> PreparedCheck:
    """Several checks as one, each with its name.

    Args:
        checks: name → check.
    """
    found = PreparedCheck(sentence="; ".join(f"{name}: {one.sentence}" for name, one in checks.items() if one.sentence))
    for one in checks.values():
        found.problems += one.problems
        found.shown += one.shown
        found.looked_at += one.looked_at
        found.available += one.available
    return found


@dataclass
class PreparedCheck:
    """Result of the check.

    Args:
        problems: the findings.
        sentence: how many of how many inputs were looked at.
        looked_at: number of inputs that were looked at.
        available: number of all inputs.
        shown: inputs for a contact sheet, where one was asked for.
    """

    problems: list[Problem] = field(default_factory=list)
    sentence: str = ""
    looked_at: int = 0
    available: int = 0
    shown: list[Any] = field(default_factory=list)


def check_prepared(
    root: Path,
    dataset_dir: Path,
    settings: Mapping[str, Any],
    sample: int | None = None,
    workers: int | None = None,
    show: bool = False,
    overlay: str | None = None,
) -> PreparedCheck:
    """Prepare the data of a bundle as a validation does, and compare the inputs.

    Args:
        root: folder of the bundle, whose ``train.json`` is run as far as the data.
        dataset_dir: the data.
        settings: of the training, by key.
        sample: number of inputs to prepare; ``None`` for all.
        workers: threads; default one per CPU, at most 8.
        show: whether to keep inputs for a contact sheet.
        overlay: config over ``train.json``, of a bundle that trains several networks.
    """
    from monai_ext.data.duplicates import duplicates
    from monai_ext.data.input_findings import input_findings
    from monai_ext.data.prepared_inputs import chosen_items, prepare_inputs
    from monai_ext.data.shortcuts import shortcuts
    from monai_ext.data.shown_inputs import shown_inputs
    from monai_ext.settings import read_bundle_config

    with tempfile.TemporaryDirectory() as scratch:  # for an index that a training would keep beside its runs
        given = {"output_dir": scratch, **settings, "dataset_dir": str(dataset_dir)}
        files = [str(root / "configs" / name) for name in ("train.json", overlay) if name]
        parser = read_bundle_config(files, given, root)
        try:
            plain, train = (parser.get_parsed_content(f"{name}#dataset") for name in ("validate", "train"))
            items = parser.get_parsed_content("items") if "items" in parser else {}
            names = list(parser.get_parsed_content("class_names") or ()) if "class_names" in parser else []
        except Exception as error:
            return PreparedCheck([_not_listed(error, dataset_dir)])
        data = {"train": train.data, "val": plain.data, **dict(items)}
        data = {section: members for section, members in data.items() if members}
        places = chosen_items(data, sample)
        inputs, problems = prepare_inputs(plain, data, places, workers)
        problems += input_findings(inputs, parser.get())
        problems += duplicates(inputs) + shortcuts(data, names) + _one_class(data["train"], names, dataset_dir)
        available = sum(map(len, data.values()))
        sizes = ", ".join(f"{section} {len(members)}" for section, members in data.items())
        sentence = f"prepared {len(places)} of {available} inputs as the network gets them ({sizes})"
        good = {(one.section, one.index) for one in inputs}
        usable = [item for number, item in enumerate(data["train"]) if sample is not None or ("train", number) in good]
        shown = shown_inputs(plain, train, usable, names) if show and usable else []
        return PreparedCheck(problems, sentence, len(places), available, shown)


def _one_class(items: Sequence[Any], names: Sequence[str], dataset_dir: Path) -> list[Problem]:
    from monai_ext.data.prepared_inputs import plain_label
    from monai_ext.data.shown_inputs import label_text

    labels = {plain_label(item.get("label")) for item in items}
    label = labels.pop()
    if labels or not isinstance(label, int):
        return []
    message = f"all training cases are {label_text(label, names)}; a classifier needs at least two classes"
    return [Problem(str(dataset_dir), message, "error", "few-cases")]


def _not_listed(error: BaseException, dataset_dir: Path) -> Problem:
    """Why a training couldn't even list its cases; MONAI wraps the reason in layers of its own."""
    root = error
    while not isinstance(root, UserError) and root.__cause__ is not None:
        root = root.__cause__
    reason = str(root) if isinstance(root, UserError) else f"{type(root).__name__}: {root}"
    message = f"no prepared input could be looked at, and a training with these settings would end as well: {reason}"
    where = str(getattr(root, "path", None) or dataset_dir)
    # Data may be for another stage, or to be predicted: then what a training needs isn't there at all.
    return Problem(where, message, "error" if Path(where).exists() else "warning", "not-looked-at")
