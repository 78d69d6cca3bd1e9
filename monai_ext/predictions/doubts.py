"""Signs that a network has learnt nothing, said where its metrics are."""

from __future__ import annotations

from typing import Any

import numpy as np


def doubts(result: Any) -> list[str]:
    """One sentence for each sign in the result of a validation; none for ``None``.

    Signs are a Dice of 0 (nothing is found), one class for all cases of several, and no label of any case.

    Args:
        result: such as `monai_ext.metrics.ClassificationResult`, with ``metrics``, and perhaps ``labels``,
            ``predictions`` and ``class_names``.
    """
    if result is None:
        return []
    found = [
        f"the network finds nothing: {name} is 0 in its best epoch"
        for name, value in result.metrics.items()
        if (name == "dice" or name.endswith("_dice")) and value == 0
    ]
    labels, names = getattr(result, "labels", None), getattr(result, "class_names", [])
    if labels is None or not len(labels):
        return found
    predicted = np.asarray(result.predictions)
    if predicted.ndim == 1 and len(set(np.asarray(labels).tolist())) > 1 and len(set(predicted.tolist())) == 1:
        found.append(f"the network predicts {names[int(predicted[0])]} for all {len(predicted)} cases")
    if predicted.ndim == 2 and np.asarray(labels).any() and not predicted.any():
        found.append(f"the network predicts no label for any of {len(predicted)} cases")
    return found
