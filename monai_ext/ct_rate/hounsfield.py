"""From stored values to Hounsfield units, and from these to the input of a network."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from monai_ext.errors import DataError

WINDOW = (-1000.0, 400.0)
Rescale = tuple[float, float]
STORED, HEADER, TABLE = "stored values", "header", "metadata table"

SAMPLE = 64  # voxels along each axis at most: enough for a histogram
# In Hounsfield units; of the voxels that aren't padding. Every chest has air or lung, and muscle, water and fat.
AIR, TISSUE, PEAK = (-1100.0, -500.0), (-250.0, 300.0), (-150.0, 150.0)
LEAST_AIR, LEAST_TISSUE = 0.01, 0.03
DENSE, MOST_DENSE = 600.0, 0.15  # compact bone and metal are rarely more than 0.05
MOST_BELOW = 0.2  # darker than air: noise, or padding that was interpolated along the edge of the round field of view
PADDING = 0.01  # share that one single value has where it is padding: -2000, -3024 or -8192, often
SAME = 2.0  # readings that differ less are one


@dataclass(frozen=True)
class Reading:
    """How the stored values of a volume become Hounsfield units, and by whose word.

    Args:
        source: "stored values", "header" or "metadata table".
        rescale: slope and intercept.
    """

    source: str
    rescale: Rescale

    def __str__(self) -> str:
        return self.source if self.source == STORED else f"{self.source} ({_text(self.rescale)})"


def choose_reading(voxels: np.ndarray, header: Rescale, listed: Rescale | None, path: str | Path) -> Reading:
    """Decide from the voxels how they become Hounsfield units; what header and table say are suggestions.

    In circulation are raw numbers (CT-RATE's version 1, with slope and intercept in the table alone), Hounsfield units
    already (version 2, whose table still lists -1024 or -8192), and files with slope and intercept in the header. Of
    the header's rescaling, the table's, and the values as they are, the one counts whose histogram is that of a chest:
    air or lung between -1100 and -500, the peak of the tissue between -150 and 150, little that is darker than air or
    denser than bone. Padding outside the round field of view, a single value, doesn't count.

    Args:
        voxels: (X, Y, Z) as they are stored, finite; at most 64 along each axis are looked at.
        header: slope and intercept of the file's header; NaN, a slope up to 0, or slope 1 and intercept 0 say nothing.
        listed: those of the metadata table; None without one.
        path: of the volume, for the error message.

    Raises:
        DataError: when no reading gives Hounsfield units of a chest, or several that differ do, with each of them.
    """
    values, counts = np.unique(_sample(voxels), return_counts=True)
    readings = list(_distinct(header, listed))
    doubts = [_doubt(values.astype(np.float64) * r.rescale[0] + r.rescale[1], counts) for r in readings]
    found = [reading for reading, doubt in zip(readings, doubts, strict=True) if not doubt]
    if len(found) == 1:
        return found[0]
    if found:
        raise DataError(
            f"can be read in more than one way: by its {' or by its '.join(map(str, found))}; each looks like "
            "Hounsfield units of a chest, so correct the header or the metadata table",
            path,
            "hounsfield",
        )
    tried = "; ".join(f"by its {reading}: {doubt}" for reading, doubt in zip(readings, doubts, strict=True))
    raise DataError(
        f"can't be Hounsfield units of a chest (air near -1000, tissue near 0), {tried}; slope and intercept are "
        "missing or wrong",
        path,
        "hounsfield",
    )


def contradiction(reading: Reading, header: Rescale, listed: Rescale | None) -> str:
    """What header or metadata table say other than the voxels; empty where they agree or say nothing."""
    others = [other for other in _distinct(header, listed) if other.source != STORED and other != reading]
    return " and ".join(f"{other.source} says {_text(other.rescale)}" for other in others)


def _distinct(header: Rescale, listed: Rescale | None) -> Iterator[Reading]:
    """Possible readings that differ from each other: header, table, as stored."""
    known: list[Rescale] = []
    for source, rescale in ((HEADER, header), (TABLE, listed), (STORED, (1.0, 0.0))):
        if rescale is None or not all(map(math.isfinite, rescale)) or rescale[0] <= 0:
            continue
        if rescale == (1.0, 0.0):
            source = STORED
        if not any(_same(rescale, other) for other in known):
            known.append(rescale)
            yield Reading(source, rescale)


def _same(first: Rescale, second: Rescale) -> bool:
    """Whether two readings differ by less than `SAME` for the numbers of a CT."""
    slope, intercept = first[0] - second[0], first[1] - second[1]
    return max(abs(number * slope + intercept) for number in (-1024, 4096)) < SAME


def _sample(voxels: np.ndarray) -> np.ndarray:
    return voxels[tuple(slice(None, None, -(-length // SAMPLE)) for length in voxels.shape)]


def _doubt(hounsfield: np.ndarray, counts: np.ndarray) -> str:
    """Why these can't be the values of a chest; empty when they can.

    Args:
        hounsfield: values that occur, each once, ascending.
        counts: how often each does.
    """
    padding = _padding(hounsfield, counts)
    hounsfield, counts = hounsfield[~padding], counts[~padding]
    total = max(int(counts.sum()), 1)

    def share(low: float, high: float) -> float:
        return float(counts[(hounsfield >= low) & (hounsfield < high)].sum() / total)

    if (below := share(-math.inf, AIR[0])) > MOST_BELOW:
        return f"{below:.0%} would be darker than air"
    if (dense := share(DENSE, math.inf)) > MOST_DENSE:
        return f"{dense:.0%} would be denser than bone"
    if share(*AIR) < max(LEAST_AIR, below):
        return "there would be no air and no lung"
    if share(*TISSUE) < LEAST_TISSUE:
        return "there would be no tissue"
    histogram, edges = np.histogram(hounsfield, np.arange(TISSUE[0], TISSUE[1] + 1, 25), weights=counts)
    peak = float(edges[histogram.argmax()] + 12.5)
    return "" if PEAK[0] < peak < PEAK[1] else f"most of the tissue would be near {peak:.0f}"


def _padding(hounsfield: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Which values may be padding: frequent ones below air, and the lowest frequent one wherever it is.

    The latter since -1012 may be padding, too, as a raw number; where it was air, lungs and other air are still there.
    """
    frequent = counts >= PADDING * counts.sum()
    padding: np.ndarray = frequent & (hounsfield < AIR[0])
    padding[np.flatnonzero(frequent)[:1]] = True
    return padding


def _text(rescale: Rescale) -> str:
    return f"slope {rescale[0]:g}, intercept {rescale[1]:g}"


def window(hounsfield: np.ndarray) -> np.ndarray:
    """Scale -1000…400 HU to float32 0…1 and clip values outside; the same for all slices and volumes."""
    low, high = WINDOW
    return np.clip((hounsfield.astype(np.float32) - low) / (high - low), 0.0, 1.0, dtype=np.float32)
