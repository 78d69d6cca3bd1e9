"""The class of a series from the predictions of its slices, and whether the series is admitted to the next stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from monai_ext.arrays import to_numpy
from monai_ext.errors import ConfigError

METHODS = ("mean", "majority")
# Sums of the same numbers in another order differ in the last bits, which must not decide a tie.
_DECIMALS = 12


@dataclass(frozen=True)
class Vote:
    """Result of a vote over the slices of a series.

    Args:
        label: name of the class; None without any slice.
        probability: mean probability of that class over all slices, 0 to 1.
        votes: class name → number of slices whose most probable class it is.
        admitted: whether the series goes on to the next stage.
        reason: why it doesn't, as a phrase; empty when it does.
    """

    label: str | None
    probability: float
    votes: dict[str, int]
    admitted: bool
    reason: str


def series_vote(
    probabilities: ArrayLike,
    class_names: Sequence[str],
    min_slices: int = 4,
    threshold: float = 0.5,
    method: str = "mean",
    admit: Sequence[str] | None = None,
) -> Vote:
    """Vote over the slices of one series: by mean probability, or by majority.

    The order of the slices never matters. Difference from the reference implementation: there a tie goes to the class
    that comes first among the slices.

    Args:
        probabilities: (N, C), of each slice over the classes, 0 to 1.
        class_names: the C names of the class map.
        min_slices: a series with fewer slices isn't admitted.
        threshold: a series whose label has a smaller mean probability (0 to 1) isn't admitted.
        method: ``"mean"``: the class with the highest mean probability; ``"majority"``: the most probable class of the
            most slices. Ties go to the higher mean probability, then to the first in the class map.
        admit: names of the admitted classes; None for all.

    Raises:
        ConfigError: for an unknown method, a threshold out of range, and a name in ``admit`` that is no class.
        ValueError: for probabilities of another shape, or out of range.
    """
    values = to_numpy(probabilities, np.float64)
    _check(values, class_names, threshold, method, admit)
    if len(values) == 0:
        return Vote(None, 0.0, dict.fromkeys(class_names, 0), False, "has no slices")
    mean = values.mean(axis=0).round(_DECIMALS)
    counts = np.bincount(values.argmax(axis=1), minlength=len(class_names))
    first = mean if method == "mean" else counts
    # Of equal candidates min keeps the first, which is the first in the class map.
    chosen = min(range(len(class_names)), key=lambda i: (-first[i], -mean[i]))
    label, probability = class_names[chosen], float(mean[chosen])
    reason = ""
    if len(values) < min_slices:
        reason = f"has {len(values)} slices, fewer than {min_slices}"
    elif admit is not None and label not in admit:
        reason = f"is {label} (probability {probability:.2f}); admitted: {', '.join(admit)}"
    elif probability < threshold:
        reason = f"is {label} with probability {probability:.2f} only, below {threshold:g}"
    votes = {name: int(count) for name, count in zip(class_names, counts, strict=True)}
    return Vote(label, probability, votes, not reason, reason)


def _check(
    values: np.ndarray, class_names: Sequence[str], threshold: float, method: str, admit: Sequence[str] | None
) -> None:
    if method not in METHODS:
        raise ConfigError(f"series_vote: method must be one of {METHODS}, got {method!r}")
    if not 0 <= threshold <= 1:
        raise ConfigError(f"series_vote: threshold must be from 0 to 1, got {threshold!r}")
    unknown = [name for name in admit or () if name not in class_names]
    if unknown:
        raise ConfigError(f"series_vote: admit has {unknown[0]!r}, which is no class; there are {list(class_names)}")
    if values.ndim != 2 or values.shape[1] != len(class_names):
        raise ValueError(
            f"series_vote: probabilities must be (N, {len(class_names)}), one column per class, got {values.shape}"
        )
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("series_vote: probabilities must be from 0 to 1, got others or NaN; apply a softmax first")
