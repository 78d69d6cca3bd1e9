"""Wrong cases with their probabilities, and where the network looked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from monai_ext.errors import ConfigError
from monai_ext.pages.style import shorten
from monai_ext.reports.mosaic import grey, grey_limits, middle_slices, mosaic, rows_of_tiles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALTERNATIVE = "Wrong cases: middle slices, and below them where the network looked for its answer (Grad-CAM)"


@dataclass(frozen=True)
class DrawnMistake:
    """A wrong case.

    Args:
        head: its name, and what it is.
        text: what was predicted, with the probability.
        image: (C, spatial axes) as the network got it.
        heat: how much each voxel spoke for the answer, 0 to 1, of the same shape with one channel, or of the same
            number of slices.
    """

    head: str
    text: str
    image: np.ndarray
    heat: np.ndarray


def mistakes_figure(mistakes: Sequence[DrawnMistake]) -> Figure:
    """A block per wrong case: slices as in a contact sheet, and below them the same slices with the heat map.

    Args:
        mistakes: the cases.

    Returns:
        A figure without global state of pyplot.

    Raises:
        ConfigError: without any case.
    """
    if not mistakes:
        raise ConfigError("mistakes_figure: there are no wrong cases to draw; give one at least")
    limits = grey_limits([one.image for one in mistakes])
    blocks = []
    for one in mistakes:
        tiles = [grey(image, limits) for image in middle_slices(one.image)]
        heats = [grey(heat, (0.0, 1.0))[..., 0] for heat in middle_slices(one.heat)]
        # outside the slice both are white, and stay so
        hot = [
            _heated(tile, np.where((tile == 1).all(-1) & (heat == 1), 0, heat))
            for tile, heat in zip(tiles, heats, strict=True)
        ]
        blocks.append(rows_of_tiles([tiles, hot]))
    title = "Wrong cases; below, where the network looked for its answer"
    captions = [(shorten(one.head, 44), shorten(one.text, 50)) for one in mistakes]
    return mosaic(blocks, captions, title)[0]


def _heated(tile: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """The tile with its heat in red and yellow, clearer where it is hotter."""
    strength = 0.65 * heat[..., None]
    colour = np.stack([np.ones_like(heat), np.clip(1.6 * heat - 0.6, 0, 1), np.zeros_like(heat)], axis=-1)
    return tile * (1 - strength) + colour * strength
