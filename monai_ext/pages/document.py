"""A report as plain data (sections of text, tables and pictures), and as one HTML file without outside parts."""

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
    """Rows of cells under a header; the first cell of a row is its heading. `note` stands below."""

    header: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    note: str = ""
    kind: str = "table"


@dataclass(frozen=True)
class Picture:
    """A PNG image with the text that stands for it."""

    png: bytes
    alt: str
    kind: str = "picture"

    @property
    def uri(self) -> str:
        return "data:image/png;base64," + base64.b64encode(self.png).decode("ascii")

    @property
    def wide(self) -> bool:
        """Whether it can't be read at half the width of the page."""
        return int.from_bytes(self.png[16:20]) > 900  # the width in pixels stands there in every PNG


@dataclass(frozen=True)
class Text:
    """One or more sentences; several become a list."""

    lines: Sequence[str]
    kind: str = "text"


@dataclass(frozen=True)
class Folded:
    """Something long, closed at first: preformatted text or a table."""

    summary: str
    content: str | Table
    kind: str = "folded"


Block = Table | Picture | Text | Folded


@dataclass
class Section:
    """A heading and what is below it."""

    title: str
    blocks: list[Block] = field(default_factory=list)

    @property
    def anchor(self) -> str:
        return "".join(c if c.isascii() and c.isalnum() else "-" for c in self.title.lower())


def render(title: str, subtitle: str, status: str, sections: Iterable[Section]) -> str:
    """One HTML document. Everything is escaped: names from data files can't become markup."""
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
    """A figure or a PNG file as embedded PNG; without other words the file's name stands for it."""
    if isinstance(figure, Path):
        return Picture(figure.read_bytes(), alt or figure.stem.replace("_", " "))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return Picture(buffer.getvalue(), alt)


def pairs(values: Mapping[str, Any], names: tuple[str, str]) -> Table:
    """A dictionary as a table of two columns; nested dictionaries get dotted names."""
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
    """Text of a table cell: floats with about four decimals, missing and non-finite values as a dash."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if value == 0 or 1e-3 <= abs(value) < 1e3:
            return f"{value:.4f}"
        return f"{value:.1f}" if 1e3 <= abs(value) < 1e9 else f"{value:.4g}"
    return str(value)
