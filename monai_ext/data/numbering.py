"""Names of a stack's slices: gaps in their numbers, and copies of one slice."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from monai_ext.data.problems import Problem
from monai_ext.data.walk import natural_key


def numbering_problems(folder: str | Path, names: Sequence[str]) -> list[Problem]:
    """Warnings about gaps ("gap") and copies ("copies"); none where the names have no common pattern.

    Copies are names that differ in their suffix, their case or leading zeros only. A gap is a step of the numbers that
    is longer than the usual one, which need not be 1.

    Args:
        folder: of the slices.
        names: of the files, in natural order.
    """
    groups: dict[tuple[int | str, ...], list[str]] = defaultdict(list)
    for name in names:
        groups[tuple(natural_key(Path(name).stem)[0])].append(name)
    problems = []
    copies = [group for group in groups.values() if len(group) > 1]
    if copies:
        more = f" (and {len(copies) - 1} more slices)" if len(copies) > 1 else ""
        message = f"{' and '.join(copies[0])} are one slice by their names{more}, and both are read; remove one"
        problems.append(Problem(str(folder), message, "warning", "copies", tuple(itertools.chain(*copies))))
    gaps = _gaps(list(groups))
    if gaps:
        first, missing = gaps[0]
        edges = [group[0] for group in list(groups.values())[first : first + 2]]
        more = f", and {len(gaps) - 1} more gaps" if len(gaps) > 1 else ""
        message = f"has a gap of {missing} in its numbers between {edges[0]} and {edges[1]}{more}"
        problems.append(Problem(str(folder), message, "warning", "gap", tuple(edges)))
    return problems


def _gaps(keys: Sequence[tuple[int | str, ...]]) -> list[tuple[int, int]]:
    """Index of the slice in front of each gap, and the number of those missing."""
    numbers = [tuple(part for part in key if isinstance(part, int)) for key in keys]
    if len({tuple(part for part in key if isinstance(part, str)) for key in keys}) != 1:
        return []
    varying = [axis for axis, column in enumerate(zip(*numbers, strict=True)) if len(set(column)) > 1]
    if len(varying) != 1:
        return []
    counted = [number[varying[0]] for number in numbers]
    steps = [second - first for first, second in itertools.pairwise(counted)]
    usual, times = min(Counter(steps).items(), key=lambda pair: (-pair[1], pair[0]))
    if 2 * times < len(steps):
        return []
    return [(index, step // usual - 1) for index, step in enumerate(steps) if step >= 2 * usual]
