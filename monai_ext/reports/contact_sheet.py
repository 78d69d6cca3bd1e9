"""Contact sheet of prepared inputs: middle slices as the network sees them, without and with augmentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from monai_ext.data.shown_inputs import ShownInput
from monai_ext.errors import ConfigError
from monai_ext.pages.style import COLOURS, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Pixels of a slice and of the gaps; the whole sheet is one picture, because dozens of axes take long to draw.
_TILE, _GAP, _TEXT = 96, 4, 36
_ACROSS = 3
_BINS = 32
_OUTLINE = (0.8, 0.47, 0.65)
ALTERNATIVE = "Inputs as the network gets them, without and with augmentation, with label, values and histogram"


def contact_sheet(inputs: Sequence[ShownInput]) -> Figure:
    """A block per input: slices without augmentation, below them with it, and the histograms of both.

    Of a volume the middle slice along each axis is drawn, of several slices three. All inputs have the same scale of
    grey, which spans at least 1: a network sees no more contrast either. Masks are outlined.

    Args:
        inputs: see `monai_ext.data.shown_inputs.shown_inputs`.

    Returns:
        A figure without global state of pyplot.

    Raises:
        ConfigError: without any input.
    """
    from matplotlib.figure import Figure

    if not inputs:
        raise ConfigError("contact_sheet: there are no inputs to draw; give one at least")
    limits = _limits(inputs)
    blocks = [_block(one, limits) for one in inputs]
    height, width = np.max([block.shape[:2] for block in blocks], axis=0)
    across = min(_ACROSS if width > 3 * _TILE else 2 * _ACROSS, len(blocks))
    step = np.array([height + _TEXT + 4 * _GAP, width + _TILE + 4 * _GAP])
    down = -(-len(blocks) // across)
    sheet = np.ones((down * step[0], across * step[1], 3), np.float32)
    corners = [step * divmod(number, across) + (_TEXT, 0) for number in range(len(blocks))]
    for (top, left), block in zip(corners, blocks, strict=True):
        sheet[top : top + block.shape[0], left : left + block.shape[1]] = block
    inches = max(sheet.shape[1] / 110, 5.5)
    figure = Figure(figsize=(inches, inches * sheet.shape[0] / sheet.shape[1] + 0.3))
    axes = figure.add_axes((0.005, 0.0, 0.99, 1 - 0.3 / figure.get_figheight()))
    axes.imshow(sheet, interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    note = "above without, below with augmentation" if any(one.augmented is not None for one in inputs) else ""
    scale = f"grey from {limits[0]:.3g} to {limits[1]:.3g}"
    title = "; ".join(text for text in ("Inputs as the network gets them", note, scale) if text)
    figure.suptitle(title, x=0.005, ha="left", fontsize="medium", fontweight="bold")
    for (top, left), block, one in zip(corners, blocks, inputs, strict=True):
        _describe(axes, one, top, left)
        _histogram(axes, one, limits, top, left + block.shape[1] + _GAP, block.shape[0])
    return figure


def middle_slices(image: np.ndarray) -> list[np.ndarray]:
    """2-D slices that represent an input.

    Args:
        image: (C, Y, X), (C, Z, Y, X), or (slices, C, Y, X) with 1 or 3 channels.
    """
    if image.ndim == 3:
        return [image[len(image) // 2]]
    if image.shape[1] in (1, 3):
        slices = image[:, image.shape[1] // 2]
        return [slices[number] for number in np.unique(np.linspace(0, len(slices) - 1, 5)[1:4].round().astype(int))]
    volume = image[0]
    return [np.take(volume, length // 2, axis) for axis, length in enumerate(volume.shape)]


def grey(image: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """A slice (Y, X) as a tile of grey (rows, columns, 3) from 0 to 1, white around it; values that aren't finite red.

    Args:
        image: of any size.
        limits: values that become black and white.
    """
    tile = np.ones((_TILE, _TILE, 3), np.float32)
    finite = np.isfinite(image)
    values = np.clip((np.where(finite, image, limits[0]) - limits[0]) / (limits[1] - limits[0]), 0, 1)
    colours = np.where(finite[..., None], values[..., None], (1, 0, 0))
    rows, columns = _sampled(image.shape)
    tile[: len(rows), : len(columns)] = colours[np.ix_(rows, columns)]
    return tile


def _sampled(shape: tuple[int, ...]) -> list[np.ndarray]:
    """Rows and columns of an image that make a tile of it."""
    longest = max(shape)
    lengths = [max(1, round(_TILE * length / longest)) for length in shape]
    return [np.arange(count) * length // count for count, length in zip(lengths, shape, strict=True)]


def _limits(inputs: Sequence[ShownInput]) -> tuple[float, float]:
    values = np.concatenate([one.plain[np.isfinite(one.plain)].reshape(-1)[::97] for one in inputs])
    low, high = (float(end) for end in np.percentile(values, (0.5, 99.5))) if values.size else (0.0, 1.0)
    missing = max(0.0, 1 - (high - low))
    return low - missing / 2, high + missing / 2


def _block(one: ShownInput, limits: tuple[float, float]) -> np.ndarray:
    plain = [grey(image, limits) for image in middle_slices(one.plain)]
    if one.mask is not None:
        masks = middle_slices(np.repeat(one.mask[None].astype(np.float32), len(one.plain), axis=0))
        plain = [_outlined(tile, mask) for tile, mask in zip(plain, masks, strict=True)]
    rows = [_row(plain)]
    if one.augmented is not None:
        rows.append(_row([grey(image, limits) for image in middle_slices(one.augmented)]))
    return np.concatenate([np.pad(row, ((0, _GAP), (0, 0), (0, 0)), constant_values=1) for row in rows])


def _row(tiles: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.pad(tile, ((0, 0), (0, _GAP), (0, 0)), constant_values=1) for tile in tiles], axis=1)


def _outlined(tile: np.ndarray, mask: np.ndarray) -> np.ndarray:
    rows, columns = _sampled(mask.shape)
    inside = np.pad(mask[np.ix_(rows, columns)] > 0, 1, mode="edge")
    core = inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    tile[: len(rows), : len(columns)][inside[1:-1, 1:-1] & ~core] = _OUTLINE
    return tile


def _describe(axes: Axes, one: ShownInput, top: int, left: int) -> None:
    name = shorten(one.summary.case, 26)
    head = f"{name}: {shorten(one.label, 26)}" if one.label else name
    text = one.summary.range
    if one.augmented is not None:
        text += f"; augmented {one.augmented.min():.3g} to {one.augmented.max():.3g}"
    axes.text(left, top - _TEXT / 2 - 2, head, fontsize=7.5, fontweight="bold", va="bottom")
    axes.text(left, top - 3, text, fontsize=7, va="bottom", color="0.3")


def _histogram(axes: Axes, one: ShownInput, limits: tuple[float, float], top: int, left: int, height: int) -> None:
    """Square roots of the counts, so that a background doesn't hide the rest."""
    height = min(height, _TILE)
    x = left + np.repeat(np.arange(_BINS + 1), 2)[1:-1] * _TILE / _BINS
    for image, colour, filled in ((one.plain, "0.6", True), (one.augmented, COLOURS[1], False)):
        if image is None:
            continue
        values = np.clip(image[np.isfinite(image)].reshape(-1)[:: max(1, image.size // 100_000)], *limits)
        counts = np.sqrt(np.histogram(values, _BINS, limits)[0].astype(np.float64))
        y = top + height * (1 - np.repeat(counts / max(counts.max(), 1), 2))
        if filled:
            axes.fill_between(x, y, top + height, color=colour, linewidth=0)
        else:
            axes.plot(x, y, color=colour, linewidth=0.9)
    axes.plot([left, left + _TILE], [top + height] * 2, color="0.4", linewidth=0.7)
    for place, value, side in ((left, limits[0], "left"), (left + _TILE, limits[1], "right")):
        axes.text(place, top + height + 2, f"{value:.3g}", fontsize=6, va="top", ha=side, color="0.3")
