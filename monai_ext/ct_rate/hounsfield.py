"""From stored values to Hounsfield units, and from these to the input of a network."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from monai_ext.errors import DataError

WINDOW = (-1000.0, 400.0)
# Every chest holds air (about -1000) and tissue (about 0) whatever is wrong with the patient.
MOST_AIR, LEAST_TISSUE = -500.0, -200.0

Rescale = tuple[float, float]


def choose_rescale(header: Rescale, listed: Rescale | None, path: str | Path) -> Rescale:
    """Slope and intercept that convert stored values to Hounsfield units.

    The file's header counts unless it is uninformative: NaN, slope 0, or slope 1 and intercept 0. Then the metadata
    table counts; when that is uninformative too, the values are Hounsfield units already.

    Args:
        header: slope and intercept of the file's header.
        listed: those of the metadata table; None without one.
        path: of the volume, for the error message.

    Raises:
        DataError: when both are informative and differ, since one of them would be applied to the wrong values.
    """
    in_header, in_table = _is_informative(header), listed is not None and _is_informative(listed)
    if in_header and in_table and listed is not None and not np.allclose(header, listed, rtol=1e-5, atol=1e-3):
        raise DataError(
            f"its header has slope {header[0]:g} and intercept {header[1]:g}, but the metadata table {listed[0]:g} and "
            f"{listed[1]:g}; correct one of them",
            path,
        )
    if in_header:
        return header
    return listed if in_table and listed is not None else (1.0, 0.0)


def _is_informative(rescale: Rescale) -> bool:
    slope, intercept = rescale
    return math.isfinite(slope) and math.isfinite(intercept) and slope != 0 and rescale != (1.0, 0.0)


def check_range(lowest: float, highest: float, path: str | Path) -> None:
    """Refuse a range of values that can't be Hounsfield units of a chest.

    Args:
        lowest: smallest value of the volume in HU.
        highest: largest value in HU.
        path: of the volume, for the error message.

    Raises:
        DataError: with the range and what probably went wrong.
    """
    if lowest > MOST_AIR or highest < LEAST_TISSUE:
        raise DataError(
            f"goes from {lowest:g} to {highest:g}, which can't be Hounsfield units of a chest (air is about -1000, "
            "tissue about 0); slope and intercept are missing or wrong",
            path,
        )


def window(hounsfield: np.ndarray) -> np.ndarray:
    """Scale -1000…400 HU to float32 0…1 and clip values outside; the same for all slices and volumes."""
    low, high = WINDOW
    return np.clip((hounsfield.astype(np.float32) - low) / (high - low), 0.0, 1.0, dtype=np.float32)


def windowed(value: float) -> float:
    """Position of a value in HU within the window, 0 to 1 inside it."""
    return (value - WINDOW[0]) / (WINDOW[1] - WINDOW[0])
