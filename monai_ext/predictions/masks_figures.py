"""Figures of masks: distribution of the Dice of slices and patients, and its dependence on the size of the mask."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from monai_ext.metrics.segmentation import SegmentationResult
from monai_ext.pages.style import COLOURS, new_axes, shorten, text_width

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# More names are too many to be read.
_MANY_PATIENTS = 60


ALTERNATIVES = {
    "dice_of_slices": "Histogram of the Dice of the slices with a mask",
    "dice_by_size": "Dice of each slice over the size of its mask",
    "dice_of_patients": "Dice of each patient and of their slices, the lowest first",
}


def figures(result: SegmentationResult) -> dict[str, Figure]:
    """All figures of a result, by file name without suffix; none without a mask, or where outputs aren't finite."""
    if result.metrics["dice"] is None:
        return {}
    return {
        "dice_of_slices": dice_of_slices(result),
        "dice_by_size": dice_by_size(result),
        "dice_of_patients": dice_of_patients(result),
    }


def dice_of_slices(result: SegmentationResult) -> Figure:
    """Histogram of the Dice of slices with a mask; mean and median as lines."""
    scores = _masked(result)[0]
    figure, axes = new_axes(f"Dice of the {len(scores)} slices with a mask", "Dice", "slices")
    axes.hist(scores, bins=20, range=(0, 1), color=COLOURS[0], edgecolor="white")
    for name, value, style in (("mean", scores.mean(), "-"), ("median", np.median(scores), "--")):
        axes.axvline(float(value), color=COLOURS[1], linewidth=1.6, linestyle=style, label=f"{name} {value:.3f}")
    axes.set_xlim(0, 1)
    axes.legend(loc="upper left")
    return figure


def dice_by_size(result: SegmentationResult) -> Figure:
    """Dice of each slice over the size of its mask, on a logarithmic axis."""
    scores, sizes = _masked(result)
    figure, axes = new_axes("Dice and size of the mask", "pixels of the mask", "Dice")
    axes.plot(sizes, scores, "o", color=COLOURS[0], markersize=4, alpha=0.5, markeredgewidth=0)
    axes.set(xscale="log", ylim=(-0.02, 1.02))
    return figure


def dice_of_patients(result: SegmentationResult) -> Figure:
    """Dice of each patient with a mask (over all pixels) and of the slices with one, the worst patients on the left."""
    of_slices: dict[str, list[float]] = {}
    for row in result.rows():
        if row["true_pixels"]:
            of_slices.setdefault(row["patient"], []).append(row["dice"])
    found = sorted((row["dice"], row["patient"]) for row in result.patient_rows() if row["true_pixels"])
    named = len(found) <= _MANY_PATIENTS
    names = [shorten(name) for _, name in found]
    figure, axes = new_axes(
        "Dice by patient",
        "" if named else f"{len(found)} patients",
        "Dice",
        width=max(6.4, 0.2 * len(found) + 1) if named else 9,
        height=4 + (text_width(names) if named else 0.2),
    )
    places = np.arange(len(found))
    points = [(place, score) for place, (_, name) in enumerate(found) for score in of_slices[name]]
    axes.plot(*np.array(points).T, "o", color="0.7", markersize=3, markeredgewidth=0, label="slice with a mask")
    axes.plot(places, [score for score, _ in found], "D", color=COLOURS[0], markersize=5, label="patient, all pixels")
    axes.set_xticks(places if named else [], names if named else [], rotation=90)
    axes.set(xlim=(-0.7, len(found) - 0.3), ylim=(-0.02, 1.02))
    axes.grid(False, axis="x")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize="small", frameon=False)
    return figure


def _masked(result: SegmentationResult) -> tuple[np.ndarray, np.ndarray]:
    """Dice and number of pixels of the slices with a mask."""
    rows = [row for row in result.rows() if row["true_pixels"]]
    return np.array([row["dice"] for row in rows]), np.array([row["true_pixels"] for row in rows])
