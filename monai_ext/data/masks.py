"""Masks: 0 outside, one other value inside."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def mask_values(pixels: np.ndarray) -> set[float]:
    """The distinct values of a mask, without sorting it where there are at most two."""
    if pixels.size == 0:
        return set()
    low, high = pixels.min(), pixels.max()
    if ((pixels == low) | (pixels == high)).all():
        return {float(low), float(high)}
    return {float(value) for value in np.unique(pixels)}


def mask_fault(values: Iterable[float]) -> str:
    """The reason why values aren't those of a mask, in one sentence; an empty string when they are.

    Args:
        values: distinct ones of the whole mask.
    """
    found = sorted(values)
    if len(found) < 2 or (len(found) == 2 and 0 in found):
        return ""
    shown = ", ".join(f"{value:g}" for value in found[:5]) + (", ..." if len(found) > 5 else "")
    none = "" if 0 in found else ", none of them 0"
    return f"has {len(found)} values ({shown}){none}; a mask has 0 outside and one other value, and all but 0 count"
