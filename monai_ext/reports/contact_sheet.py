"""Contact sheet of prepared inputs: middle slices as the network sees them, without and with augmentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from monai_ext.data.shown_inputs import ShownInput
from monai_ext.errors import ConfigError
from monai_ext.pages.style import COLOURS, shorten
from monai_ext.reports.mosaic import GAP, TILE, grey, grey_limits, middle_slices, mosaic, rows_of_tiles, sampled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BINS = 32
_OUTLINE = (0.8, 0.47, 0.65)
ALTERNATIVE = "Inputs as the network gets them, without and with augmentation, with label, values and histogram"


def contact_sheet(inputs: Sequence[ShownInput]) -> Figure:
    """A block per input: slices without augmentation, below them with it, and the histograms of both.

    Of a volume the middle slice along each axis is drawn, of several slices three. All inputs share one scale of grey,
    see `monai_ext.reports.mosaic.grey_limits`. Masks are outlined.

    Args:
        inputs: see `monai_ext.data.shown_inputs.shown_inputs`.

    Returns:
        A figure without global state of pyplot.

    Raises:
        ConfigError: without any input.
    """
    if not inputs:
        raise ConfigError("contact_sheet: there are no inputs to draw; give one at least")
    limits = grey_limits([one.plain for one in inputs])
    blocks = [_block(one, limits) for one in inputs]
    note = "above without, below with augmentation" if any(one.augmented is not None for one in inputs) else ""
    scale = f"grey from {limits[0]:.3g} to {limits[1]:.3g}"
    title = "; ".join(text for text in ("Inputs as the network gets them", note, scale) if text)
    figure, axes, corners = mosaic(blocks, [_caption(one) for one in inputs], title, TILE)
    for (top, left), block, one in zip(corners, blocks, inputs, strict=True):
        _histogram(axes, one, limits, top, left + block.shape[1] + GAP)
    return figure


def _block(one: ShownInput, limits: tuple[float, float]) -> np.ndarray:
    rows = [_tiles(one.plain, one.mask, limits)]
    if one.augmented is not None:
        rows.append(_tiles(one.augmented, one.augmented_mask, limits))
    return rows_of_tiles(rows)


def _caption(one: ShownInput) -> tuple[str, str]:
    name = shorten(one.summary.case, 26)
    text = one.summary.range
    if one.augmented is not None:
        text += f"; augmented {one.augmented.min():.3g} to {one.augmented.max():.3g}"
    return f"{name}: {shorten(one.label, 26)}" if one.label else name, text


def _tiles(image: np.ndarray, mask: np.ndarray | None, limits: tuple[float, float]) -> list[np.ndarray]:
    tiles = [grey(part, limits) for part in middle_slices(image)]
    if mask is None:
        return tiles
    masks = middle_slices(np.repeat(mask[None].astype(np.float32), len(image), axis=0))
    return [_outlined(tile, part) for tile, part in zip(tiles, masks, strict=True)]


def _outlined(tile: np.ndarray, mask: np.ndarray) -> np.ndarray:
    rows, columns = sampled(mask.shape)
    inside = np.pad(mask[np.ix_(rows, columns)] > 0, 1, mode="edge")
    core = inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    tile[: len(rows), : len(columns)][inside[1:-1, 1:-1] & ~core] = _OUTLINE
    return tile


def _histogram(axes: Axes, one: ShownInput, limits: tuple[float, float], top: int, left: int) -> None:
    """Square roots of the counts, so that a background doesn't hide the rest."""
    x = left + np.repeat(np.arange(_BINS + 1), 2)[1:-1] * TILE / _BINS
    bottom = top + TILE
    for image, colour, filled in ((one.plain, "0.6", True), (one.augmented, COLOURS[1], False)):
        if image is None:
            continue
        values = np.clip(image[np.isfinite(image)].reshape(-1)[:: max(1, image.size // 100_000)], *limits)
        counts = np.sqrt(np.histogram(values, _BINS, limits)[0].astype(np.float64))
        y = bottom - TILE * np.repeat(counts / max(counts.max(), 1), 2)
        if filled:
            axes.fill_between(x, y, bottom, color=colour, linewidth=0)
        else:
            axes.plot(x, y, color=colour, linewidth=0.9)
    axes.plot([left, left + TILE], [bottom, bottom], color="0.4", linewidth=0.7)
    for place, value, side in ((left, limits[0], "left"), (left + TILE, limits[1], "right")):
        axes.text(place, bottom + 2, f"{value:.3g}", fontsize=6, va="top", ha=side, color="0.3")
