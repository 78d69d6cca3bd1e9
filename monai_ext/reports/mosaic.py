"""One picture of many small ones, in blocks with room for text: dozens of axes would take long to draw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Edge of a tile, of the gaps between tiles, and of the room for text above a block, in pixels.
TILE, GAP, TEXT = 96, 4, 36
# Width of a letter of the text and of a row of blocks; a row has at most six.
_LETTER, _ROW = 7.5, 1300


def mosaic(
    blocks: Sequence[np.ndarray], captions: Sequence[tuple[str, str]], title: str, beside: int = 0
) -> tuple[Figure, Axes, list[tuple[int, int]]]:
    """A figure of blocks with two lines above each, row by row.

    Args:
        blocks: pictures (rows, columns, 3) from 0 to 1.
        captions: of each block, a line in bold and one below it.
        title: of the figure.
        beside: pixels of room to the right of each block.

    Returns:
        The figure without global state of pyplot, its axes, in pixels of the picture, and the upper left corner of each
        block.
    """
    from matplotlib.figure import Figure

    height, width = np.max([block.shape[:2] for block in blocks], axis=0).tolist()
    text_width = round(_LETTER * max(len(line) for lines in captions for line in lines))
    step = (height + TEXT + 4 * GAP, max(width + beside, text_width) + 4 * GAP)
    across = max(1, min(_ROW // step[1], 6, len(blocks)))
    sheet = np.ones((-(-len(blocks) // across) * step[0], across * step[1], 3), np.float32)
    corners = [(number // across * step[0] + TEXT, number % across * step[1]) for number in range(len(blocks))]
    for (top, left), block in zip(corners, blocks, strict=True):
        sheet[top : top + block.shape[0], left : left + block.shape[1]] = block
    inches = max(sheet.shape[1] / 110, 7.0)
    figure = Figure(figsize=(inches, inches * sheet.shape[0] / sheet.shape[1] + 0.3))
    axes = figure.add_axes((0.005, 0.0, 0.99, 1 - 0.3 / figure.get_figheight()))
    axes.imshow(sheet, interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    for (top, left), (head, text) in zip(corners, captions, strict=True):
        axes.text(left, top - TEXT / 2 + 1, head, fontsize=7.5, fontweight="bold", va="bottom")
        axes.text(left, top - 3, text, fontsize=7, va="bottom", color="0.3")
    figure.suptitle(title, x=0.005, ha="left", fontsize="medium", fontweight="bold")
    return figure, axes, corners


def middle_slices(image: np.ndarray) -> list[np.ndarray]:
    """2-D slices that represent an input: of a volume the middle one along each axis, of several slices three.

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
    tile = np.ones((TILE, TILE, 3), np.float32)
    finite = np.isfinite(image)
    values = np.clip((np.where(finite, image, limits[0]) - limits[0]) / (limits[1] - limits[0]), 0, 1)
    colours = np.where(finite[..., None], values[..., None], (1, 0, 0))
    rows, columns = sampled(image.shape)
    tile[: len(rows), : len(columns)] = colours[np.ix_(rows, columns)]
    return tile


def sampled(shape: tuple[int, ...]) -> list[np.ndarray]:
    """Rows and columns of an image of this shape that make a tile of it."""
    longest = max(shape)
    lengths = [max(1, round(TILE * length / longest)) for length in shape]
    return [np.arange(count) * length // count for count, length in zip(lengths, shape, strict=True)]


def rows_of_tiles(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Tiles below and beside each other, with gaps."""
    joined = [
        np.concatenate([np.pad(tile, ((0, 0), (0, GAP), (0, 0)), constant_values=1) for tile in row], axis=1)
        for row in rows
    ]
    return np.concatenate([np.pad(row, ((0, GAP), (0, 0), (0, 0)), constant_values=1) for row in joined])


def grey_limits(images: Sequence[np.ndarray]) -> tuple[float, float]:
    """Values for black and white that all images share, at least 1 apart: a network sees no more contrast either."""
    values = np.concatenate([image[np.isfinite(image)].reshape(-1)[::97] for image in images])
    low, high = (float(end) for end in np.percentile(values, (0.5, 99.5))) if values.size else (0.0, 1.0)
    missing = max(0.0, 1 - (high - low))
    return low - missing / 2, high + missing / 2
