"""The findings of a check as one HTML page, with the contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from monai_ext.data.problems import Problem, count
from monai_ext.io import write_text
from monai_ext.pages.document import Block, Folded, Section, Table, Text, picture, render

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_check_page(
    path: str | Path, title: str, problems: Sequence[Problem], looked_at: str = "", sheet: Figure | None = None
) -> Path:
    """Write the page, without external parts.

    Args:
        path: HTML file.
        title: of the page.
        problems: the findings.
        looked_at: sentence on how much was looked at.
        sheet: see `monai_ext.reports.contact_sheet.contact_sheet`.

    Raises:
        WriteError: when the file can't be written.
    """
    from monai_ext.reports.contact_sheet import ALTERNATIVE

    lines = [f"{count(list(problems))}.", *([f"{looked_at[0].upper()}{looked_at[1:]}."] if looked_at else [])]
    header = ("severity", "code", "where", "what is wrong", "what mends it")
    order = {"error": 0, "warning": 1, "note": 2}
    ranked = sorted(problems, key=lambda problem: order[problem.severity])
    rows = [(one.severity, one.code, one.path, one.message, one.step) for one in ranked]
    found: list[Block] = [Table(header, rows) if rows else Text(["Nothing was found."])]
    for one in ranked:
        if len(one.files) > 1:
            files = "\n".join(one.files[:1000])
            found.append(Folded(f"{one.code}: {len(one.files)} files", files))
    sections = [Section("Summary", [Text(lines)]), Section("Findings", found)]
    if sheet is not None:
        sections.append(Section("Inputs", [picture(sheet, ALTERNATIVE)]))
    return write_text(path, render(title, "", "", sections))
