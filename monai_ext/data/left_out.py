"""What of the data isn't used, and why: nothing is left out without a word."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Generic, TypeVar

from monai_ext.data.problems import Problem

Entry = TypeVar("Entry")
# Names in one sentence about files that aren't used; the finding has all of them.
SHOWN = 5


class Found(list[Entry], Generic[Entry]):
    """A list of cases that remembers what was left out, as `monai_ext.data.Splits` does for sections.

    Attributes:
        left_out: a sentence for each file or case that isn't used, for the records of a run or a prediction.
    """

    def __init__(self, entries: Iterable[Entry] = (), left_out: Iterable[Problem | str] = ()) -> None:
        super().__init__(entries)
        self.left_out = [str(one) for one in left_out]


def not_used(files: Iterable[str | Path], reason: Callable[[Path], str], root: str | Path) -> list[Problem]:
    """One note for each reason why files aren't used, with all files that it goes for.

    Args:
        files: that aren't used.
        reason: says of a file why, such as "not a TIFF file".
        root: folder in which they are.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for file in files:
        groups[reason(Path(file))].append(str(file))
    notes = []
    for why, members in groups.items():
        names = [os.path.relpath(member, root) for member in members[:SHOWN]]
        more = f" and {len(members) - SHOWN} more" if len(members) > SHOWN else ""
        count = "1 file is" if len(members) == 1 else f"{len(members)} files are"
        message = f"{count} not used ({', '.join(names)}{more}): {why}"
        notes.append(Problem(str(root), message, "note", "not-used", tuple(members)))
    return notes
