"""Report section of subgroups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai_ext.pages.document import Block, Section, Table, Text
from monai_ext.pages.tables import as_dict, value_and_interval

FILE = "subgroups.json"


def subgroup_section(content: Mapping[str, Any]) -> Section:
    """A table for each column.

    Args:
        content: of ``subgroups.json``; empty without one.
    """
    blocks: list[Block] = []
    for column, groups in as_dict(content.get("subgroups")).items():
        metrics = list(
            dict.fromkeys(name for group in as_dict(groups).values() for name in as_dict(as_dict(group).get("metrics")))
        )
        rows = [
            (
                value,
                group.get("n"),
                *(value_and_interval(group, m, as_dict(group.get("metrics")).get(m)) for m in metrics),
            )
            for value, group in ((value, as_dict(group)) for value, group in as_dict(groups).items())
        ]
        blocks.append(Table((column, "n", *metrics), rows, caption=f"By {column}, with 95 % intervals"))
    note = "None were asked for: `python -m monai_ext report RUN --subgroups scanner,sex --case_table FILE.csv`."
    return Section("Subgroups", blocks or [Text([note])])
