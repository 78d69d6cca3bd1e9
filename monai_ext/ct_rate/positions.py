"""Positions of the slices that represent a chest."""

from __future__ import annotations

import numpy as np

from monai_ext.errors import ConfigError

# Fraction of the slices, and the range of the chest they are from, both from the lowest slice upwards. The ranges
# overlap, so that the bases and the apices of the lungs get slices from both.
LOWER, MIDDLE, UPPER = (0.2, (0.0, 0.3)), (0.6, (0.25, 0.75)), (0.2, (0.7, 1.0))


def slice_positions(start: int, stop: int, n: int = 12) -> list[int]:
    """Indices of about ``n`` slices from ``start`` to ``stop``, both included.

    20 % are in the lower, 60 % in the middle, 20 % in the upper range; those lost by rounding are added to the upper.

    Args:
        start: index of the lowest slice of the chest.
        stop: index of the highest.
        n: number of slices, at least 1.

    Returns:
        Ascending indices, each once: fewer than ``n`` in a short range.

    Raises:
        ConfigError: for an empty range or ``n`` below 1.
    """
    if n < 1 or not 0 <= start <= stop:
        raise ConfigError(f"slice_positions: needs 0 <= start <= stop and n >= 1, got {start}, {stop}, {n}")
    lower, middle = int(LOWER[0] * n), int(MIDDLE[0] * n)
    fractions = [
        *np.linspace(*LOWER[1], lower, endpoint=False),
        *np.linspace(*MIDDLE[1], middle),
        *np.linspace(*UPPER[1], n - lower - middle),
    ]
    length = stop - start + 1
    return sorted({min(int(start + fraction * length), stop) for fraction in fractions})
