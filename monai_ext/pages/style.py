"""The style of all figures, set on each one: `rcParams` would be global state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette for all kinds of colour vision, without its yellow (too faint for lines on white).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# With more of them a legend would hide the lines.
MANY_LINES = 10
LINES = ("-", "--", "-.", ":")


def new_axes(
    title: str, xlabel: str, ylabel: str, width: float = 6.4, height: float = 4.2, rows: int = 1
) -> tuple[Figure, Axes]:
    """A new figure and its first axes.

    Args:
        title: of the first axes.
        xlabel: of the first axes.
        ylabel: of the first axes.
        width: of the figure in inches.
        height: of the figure in inches.
        rows: axes below each other; the last of several is a third as high as the others.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    ratios = [3] * max(rows - 1, 1) + [1] * (rows > 1)
    all_axes = figure.subplots(rows, 1, sharex=rows > 1, height_ratios=ratios, squeeze=False)[:, 0]
    for axes in all_axes:
        dress(axes)
    dress(all_axes[0], title, xlabel, ylabel)
    return figure, all_axes[0]


def dress(axes: Axes, title: str = "", xlabel: str = "", ylabel: str = "") -> None:
    """Set grid, frame and labels of one pair of axes.

    Args:
        axes: changed in place.
        title: plain text; so are the labels.
        xlabel: name of the x axis.
        ylabel: name of the y axis.
    """
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set(xlabel=plain(xlabel), ylabel=plain(ylabel))
    axes.set_title(plain(title), loc="left", fontweight="bold")


def plot_width(class_names: Sequence[str]) -> float:
    """Width in inches for curves of these classes, with the legend beside them for four or more."""
    if len(class_names) < 4:
        return 5.2
    return 7 + text_width([shorten(name) for name in class_names])


def text_width(texts: Sequence[str]) -> float:
    """Approximate width of the longest of these texts in inches."""
    return 0.085 * max(map(len, texts), default=0)


def place_legend(axes: Axes, place: Literal["lower right", "lower left", "upper left"]) -> None:
    """A legend inside the axes, or beside them when it has more than three lines."""
    if len(axes.get_legend_handles_labels()[1]) < 4:
        axes.legend(loc=place)
    else:
        axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), fontsize="small")


def draw_line(
    axes: Axes,
    x: ArrayLike,
    y: ArrayLike,
    label: str,
    index: int,
    marker: str = "o",
    drawstyle: str = "default",
    linestyle: str = "",
) -> None:
    """Draw a line whose colour and dashes differ from its neighbours'; without points nothing, not even a legend entry.

    Args:
        axes: changed in place.
        x: (N,) values.
        y: (N,) values.
        label: text of the legend.
        index: number of the line, from 0, which selects colour and dashes.
        marker: of the points, as in matplotlib.
        drawstyle: as in matplotlib.
        linestyle: dashes in place of those of the index.
    """
    if not np.size(x):
        return
    style = line_style(index) | ({"linestyle": linestyle} if linestyle else {})
    axes.plot(np.asarray(x), np.asarray(y), label=plain(label), marker=marker, drawstyle=drawstyle, **style)


def line_style(index: int) -> dict[str, Any]:
    """Arguments of matplotlib's ``plot`` that make line number ``index`` (from 0) differ from its neighbours."""
    return {
        "color": COLOURS[index % len(COLOURS)],
        "linestyle": LINES[index % len(LINES)],
        "markersize": 3,
        "linewidth": 1.6,
    }


def finish_epochs(axes: Axes, best_epoch: int | None) -> None:
    """Draw ticks at whole epochs, the best epoch as a line, and the legend (beside the axes when it is long)."""
    if best_epoch is not None:
        axes.axvline(best_epoch, color="0.4", linewidth=1, linestyle=":", label=f"best epoch ({best_epoch})")
    whole_epochs(axes)
    if len(axes.get_legend_handles_labels()[1]) <= MANY_LINES:
        axes.legend(ncols=2, fontsize="small")
    else:
        axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), fontsize="small")


def whole_epochs(axes: Axes) -> None:
    """Draw ticks at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def shorten(name: object, longest: int = 28) -> str:
    """A class name of at most ``longest`` characters, as `plain` text."""
    text = str(name)
    return plain(text if len(text) <= longest else f"{text[: longest - 1].rstrip()}…")


def plain(text: object) -> str:
    """Text without markup, for titles, ticks and legends."""
    # "$" starts a formula (a damaged one raises), and legends drop labels that start with "_".
    escaped = str(text).replace("$", r"\$")
    return f" {escaped}" if escaped.startswith("_") else escaped
