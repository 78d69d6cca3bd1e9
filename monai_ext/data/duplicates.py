"""Cases that are copies of each other, above all on both sides of a split."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from monai_ext.data.prepared_inputs import PreparedInput
from monai_ext.data.problems import Problem

# Copies differ by noise, compression or a voxel's shift: far less than a case differs from the one most like it.
_MOST_DIFFERENCE = 0.01
_OF_THE_USUAL = 0.1
# Small copies that are compared with each other: 8000² similarities in float64 take half a gigabyte.
MOST_COMPARED = 8000


def duplicates(inputs: Sequence[PreparedInput]) -> list[Problem]:
    """Different cases with the same prepared input, and cases of different patients that are nearly the same.

    In one section too: another fold would have them on both sides. Inputs without any contrast don't count: they are a
    finding of their own, and all the same.

    Args:
        inputs: of all sections.
    """
    varied = [one for one in inputs if one.finite and not one.constant]
    return [*_identical(varied), *_similar(varied)]


def _identical(inputs: Sequence[PreparedInput]) -> list[Problem]:
    groups: dict[str, list[PreparedInput]] = defaultdict(list)
    for one in inputs:
        groups[one.digest].append(one)
    problems: dict[tuple[str, ...], Problem] = {}
    for members in groups.values():
        cases = list({one.case: one for one in members}.values())
        if len(cases) < 2:
            continue
        sections = sorted({one.section for one in cases})
        across = len(sections) > 1
        labels = len({one.label for one in cases}) > 1
        names = ", ".join(f"{one.case} ({one.section})" for one in cases[:4]) + (", ..." if len(cases) > 4 else "")
        message = f"{len(cases)} cases have the same input: {names}"
        message += ", with different labels" if labels else ""
        message += (
            f"; they are in {' and '.join(sections)}, so results would be too good"
            if across
            else "; with another fold or seed they may be on both sides"
        )
        severity, code = "error" if across or labels else "warning", "copies-across-sets" if across else "same-input"
        files = tuple(dict.fromkeys(file for one in cases for file in one.files))
        key = tuple(sorted(one.case for one in cases))
        # cases of many crops are one finding
        problems.setdefault(key, Problem(next(iter(files), cases[0].case), message, severity, code, files))
    return list(problems.values())


def _similar(inputs: Sequence[PreparedInput]) -> list[Problem]:
    same_size = [one for one in inputs if one.small.size == inputs[0].small.size]
    if len(same_size) < 2:
        return []
    problems: dict[frozenset[str], Problem] = {}
    if len(same_size) > MOST_COMPARED:
        message = f"near copies were looked for among {MOST_COMPARED} of {len(same_size)} inputs, evenly spread"
        problems[frozenset()] = Problem(
            "all cases", message, "note", "not-looked-at", step="nothing, if that is enough"
        )
        same_size = [same_size[i] for i in np.linspace(0, len(same_size) - 1, MOST_COMPARED).astype(int)]
    small = np.stack([one.small for one in same_size])
    small -= small.mean(axis=1, keepdims=True)
    small /= np.maximum(np.linalg.norm(small, axis=1, keepdims=True), 1e-12)
    cases, patients, digests = (
        np.array([getattr(one, name) for one in same_size]) for name in ("case", "patient", "digest")
    )
    nearest, difference = np.zeros(len(small), np.int64), np.ones(len(small))
    for row, of_row in enumerate(small):
        away = 1 - small @ of_row
        away[(patients == patients[row]) | (cases == cases[row]) | (digests == digests[row])] = np.inf
        nearest[row], difference[row] = away.argmin(), away.min()
    known = difference[np.isfinite(difference)]
    if not known.size:
        return list(problems.values())
    limit = min(_MOST_DIFFERENCE, _OF_THE_USUAL * float(np.median(known)))
    for number in np.flatnonzero(difference < limit).tolist():
        one, other = same_size[number], same_size[nearest[number]]
        across = one.section != other.section
        usual = f"{1 - float(np.median(known)):.5f}"
        message = (
            f"cases {one.case} ({one.section}) and {other.case} ({other.section}) are nearly the same (correlation "
            f"{1 - difference[number]:.5f}, where two cases most alike usually have {usual}): is it one patient "
            "twice?"
        )
        message += "" if across else f" Both are in {one.section}; with another fold or seed they may be on both sides"
        files = (*one.files, *other.files)
        path = next(iter(files), one.case)
        code = "near-copies-across-sets" if across else "near-copies"
        pair = frozenset((one.case, other.case))
        problems.setdefault(pair, Problem(path, message, "warning", code, files))
    return list(problems.values())
