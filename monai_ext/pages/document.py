"""A report as plain data (sections of text, tables and images), and as one HTML file without external parts."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Table:
    """A table.

    Args:
        header: one cell per column.
        rows: cells of each row, as many as in the header; the first one is the row's heading.
        caption: title of the table.
        note: text below the table.
        kind: name of the block in the page template; leave it as it is.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    note: str = ""
    kind: str = "table"


@dataclass(frozen=True)
class Picture:
    """A PNG image with its alternative text.

    Args:
        png: content of the file.
        alt: text for readers who don't see the image.
        kind: name of the block in the page template; leave it as it is.
    """

    png: bytes
    alt: str
    kind: str = "picture"

    @property
    def uri(self) -> str:
        return "data:image/png;base64," + base64.b64encode(self.png).decode("ascii")

    @property
    def wide(self) -> bool:
        """Whether it can't be read at half the width of the page."""
        return int.from_bytes(self.png[16:20]) > 900  # bytes 16 to 19 of a PNG are its width in pixels


@dataclass(frozen=True)
class Text:
    """One or more sentences.

    Args:
        lines: the sentences; several become a list.
        kind: name of the block in the page template; leave it as it is.
    """

    lines: Sequence[str]
    kind: str = "text"


@dataclass(frozen=True)
class Folded:
    """A long block, closed at first.

    Args:
        summary: the line to open it by.
        content: preformatted text or a table.
        kind: name of the block in the page template; leave it as it is.
    """

    summary: str
    content: str | Table
    kind: str = "folded"


Block = Table | Picture | Text | Folded


@dataclass
class Section:
    """A heading and the blocks below it.

    Args:
        title: the heading.
        blocks: text, tables and images.
    """

    title: str
    blocks: list[Block] = field(default_factory=list)

    @property
    def anchor(self) -> str:
        return "".join(c if c.isascii() and c.isalnum() else "-" for c in self.title.lower())


def render(title: str, subtitle: str, status: str, sections: Iterable[Section]) -> str:
    """One HTML document. All text is escaped: names from data files can't become markup.

    Args:
        title: of the page.
        subtitle: line below the title.
        status: such as "finished" or "failed", shown beside the title; empty for none.
        sections: in the order of the page.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("monai_ext.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = cell
    environment.tests["number"] = lambda value: isinstance(value, (int, float)) and not isinstance(value, bool)
    page = environment.get_template("report.html.j2").render(
        title=title, subtitle=subtitle, status=status, sections=list(sections)
    )
    # A JSON file can hold half a surrogate pair, which UTF-8 can't.
    return page.encode("utf-8", "replace").decode("utf-8")


def picture(figure: Figure | Path, alt: str = "") -> Picture:
    """A figure or a PNG file as embedded PNG.

    Args:
        figure: drawn at 130 dots per inch; or the path of a file.
        alt: alternative text; by default the file's name.
    """
    if isinstance(figure, Path):
        return Picture(figure.read_bytes(), alt or figure.stem.replace("_", " "))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return Picture(buffer.getvalue(), alt)


def pairs(values: Mapping[str, Any], names: tuple[str, str]) -> Table:
    """A dictionary as a table of two columns; nested dictionaries get dotted names.

    Args:
        values: name → value.
        names: headings of the two columns.
    """
    rows: list[tuple[str, Any]] = []

    def add(prefix: str, value: Any) -> None:
        if isinstance(value, Mapping) and value:
            for key, item in value.items():
                add(f"{prefix}.{key}" if prefix else str(key), item)
        else:
            rows.append((prefix, value))

    add("", values)
    return Table(names, rows)


def cell(value: Any) -> str:
    """Text of a table cell: floats with about four decimals, missing and non-finite values as a dash.

    Args:
        value: number, text, bool or None.
    """
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if value == 0 or 1e-3 <= abs(value) < 1e3:
            return f"{value:.4f}"
        return f"{value:.1f}" if 1e3 <= abs(value) < 1e9 else f"{value:.4g}"
    return str(value)
