"""What of the data isn't used, and why: nothing is left out without a word."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from monai_ext.data.problems import Problem
from monai_ext.errors import ConfigError, DataError

logger = logging.getLogger(__name__)

Entry = TypeVar("Entry")
# Names in one sentence about files that aren't used; the finding has all of them.
SHOWN = 5
# Files that this program writes among the data.
OURS = ("demo.json",)


class Found(list[Entry], Generic[Entry]):
    """A list of cases that remembers what was left out, as `monai_ext.data.Splits` does for sections.

    Args:
        entries: the cases.
        unused: problems and notes about what isn't among them.
    """

    def __init__(self, entries: Iterable[Entry] = (), unused: Iterable[Problem] = ()) -> None:
        super().__init__(entries)
        self.unused = list(unused)

    @property
    def left_out(self) -> list[str]:
        """A sentence for each file or case that isn't used, for the records of a run or a prediction."""
        return [str(one) for one in self.unused]


def not_used(files: Iterable[str | Path], reason: Callable[[Path], str], root: str | Path) -> list[Problem]:
    """One note for each reason why files or folders aren't used, with all that it goes for.

    Args:
        files: that aren't used.
        reason: says of a file why, such as "not a TIFF file".
        root: folder in which they are.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for file in map(Path, files):
        if file.name not in OURS:
            groups[reason(file)].append(str(file))
    notes = []
    for why, members in groups.items():
        names = [os.path.relpath(member, root) for member in members[:SHOWN]]
        more = f" and {len(members) - SHOWN} more" if len(members) > SHOWN else ""
        count = "1 entry is" if len(members) == 1 else f"{len(members)} entries are"
        message = f"{count} not used ({', '.join(names)}{more}): {why}"
        notes.append(Problem(str(root), message, "note", "not-used", tuple(members)))
    return notes


def refuse_or_leave_out(problems: Sequence[Problem], policy: str, setting: str, bundle: str) -> None:
    """Raise the first error among the problems, or log all that is left out.

    Args:
        problems: of the data.
        policy: "error", or "skip" to go on without the cases that have an error.
        setting: name of the policy's setting.
        bundle: for the hint how to list everything.

    Raises:
        ConfigError: for another policy.
        DataError: under the policy "error".
    """
    if policy not in ("error", "skip"):
        raise ConfigError(f"{setting} must be one of ['error', 'skip'], got {policy!r}")
    errors = [problem for problem in problems if problem.severity == "error"]
    if errors and policy == "error":
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise DataError(
            f"{errors[0].message}{more}; list everything by `python -m monai_ext check {bundle}`, or go on without "
            f"these by `--{setting} skip`",
            errors[0].path,
            errors[0].code,
        )
    log_left_out(problems)


def log_left_out(problems: Iterable[Problem]) -> None:
    """Say what is left out: a warning for each problem, notes as information."""
    for problem in problems:
        logger.log(logging.INFO if problem.severity == "note" else logging.WARNING, "left out: %s", problem)


def refuse(problems: Sequence[Problem]) -> None:
    """Raise the first error among the problems, if there is one.

    Args:
        problems: of the data.

    Raises:
        DataError: with its message, path and code.
    """
    for problem in problems:
        if problem.severity == "error":
            raise DataError(problem.message, problem.path, problem.code)
