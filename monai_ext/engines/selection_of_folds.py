"""How the epochs of a cross-validation were chosen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from monai_ext.handlers.selection import INNER


def selection_of_folds(folds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How the epochs of a cross-validation were chosen, with a sentence for readers.

    Args:
        folds: ``metrics.json`` of each.
    """
    known = [fold.get("selection") or {} for fold in folds]
    rules = {str(one["rule"]) for one in known if "rule" in one}
    rule = rules.pop() if len(rules) == 1 and all(known) else None
    found: dict[str, Any] = {"rule": rule, "optimistic": rule not in ("last", INNER)}
    if rule is None:
        return {**found, "sentence": "How the epochs of the folds were chosen isn't recorded; it was probably on them."}
    if rule != "best":
        how = (
            "the last epoch is reported" if rule == "last" else "the epoch was chosen on an inner part of its training"
        )
        return {**found, "sentence": f"In each fold {how}, so that the fold itself chose nothing."}
    name = str(known[0]["by"][0])
    lasts = [one.get("last_epoch", {}).get("metrics", {}).get(name) for one in known]
    values = [value for value in lasts if value is not None and math.isfinite(value)]
    mean = sum(values) / len(values) if values else None
    most = max(int(one.get("epochs_compared", 0)) for one in known)
    found["last_epoch"] = {"mean": {name: mean}}
    shown = f"; the mean {name} of the last epochs is {mean:.4f}" if mean is not None else ""
    return {
        **found,
        "sentence": f"In each fold the best of up to {most} epochs was chosen on the same cases that are reported, so "
        f"these figures are optimistic{shown}. For figures that are not, train with --selection inner.",
    }
