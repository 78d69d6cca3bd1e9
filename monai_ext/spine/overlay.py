"""A slice with the outlines of masks on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from monai_ext.pages.style import COLOURS, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def overlay_figure(
    image: np.ndarray, masks: Mapping[str, np.ndarray], title: str = "", aspect: float = 1.0, height: float = 3.6
) -> Figure:
    """A slice, and beside it the same slice with the outlines of the masks, each in a colour that the legend names.

    Args:
        image: (Y, X), any values; shown from the 0.5th to the 99.5th percentile.
        masks: bool (Y, X) by name; an empty one is named too.
        title: above both images; none by default.
        aspect: height of a pixel divided by its width.
        height: of each of the two images, in inches.

    Returns:
        A figure without global state of pyplot.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    low, high = np.percentile(image, (0.5, 99.5))
    rows, columns = image.shape
    width = min(max(height * columns / (rows * aspect), height / 3), 2 * height)
    figure = Figure(figsize=(2 * width, height + 0.7), layout="constrained")
    for axes, outlined in zip(figure.subplots(1, 2), (False, True), strict=True):
        axes.imshow(image, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), aspect=aspect, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        for mask, colour in zip(masks.values(), COLOURS, strict=False):
            if outlined and mask.any():
                # One row and column more, so that what touches the edge is closed.
                axes.contour(np.arange(-1, columns + 1), np.arange(-1, rows + 1), np.pad(mask, 1), [0.5], colors=colour)
        axes.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5))
    figure.suptitle(plain(title), fontsize="small")
    lines = [Line2D([], [], color=colour) for _, colour in zip(masks, COLOURS, strict=False)]
    figure.legend(lines, list(masks), loc="outside lower center", ncols=len(masks), frameon=False, fontsize="small")
    return figure
