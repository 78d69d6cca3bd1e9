"""Preflight checks: open everything once and list all problems, before a run fails at the first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from monai_ext.blocks import run_in_order
from monai_ext.data.problems import Problem
from monai_ext.data.volumes import geometry_difference, read_volume
from monai_ext.errors import DataError
from monai_ext.places import Place, Threads, place_of


def check_volumes(
    images: Sequence[str], seg: str | None = None, seg_values: Iterable[int] = (0, 1, 2, 4)
) -> list[Problem]:
    """Problems of one case: files unreadable, not 3-D, not finite, blank or on different grids; labels in ``seg``.

    Args:
        images: paths of the case's images, see `monai_ext.data.volumes.read_volume`.
        seg: path of its segmentation, if any.
        seg_values: labels that the segmentation may hold.
    """
    problems: list[Problem] = []
    first = None
    for path in [*images, *([seg] if seg else [])]:
        try:
            volume = read_volume(path)
        except DataError as error:
            problems.append(Problem.of(error, path))
            continue
        if note := volume.meta["geometry_note"]:
            problems.append(Problem(path, note, "warning", "geometry"))
        array = volume.numpy()
        bad = array.size - int(np.isfinite(array).sum())
        if bad:
            problems.append(Problem(path, f"{bad} of {array.size} voxels are NaN or infinite", code="not-finite"))
        if first is None:
            first, first_path = volume, path
        elif difference := geometry_difference(first, volume):
            problems.append(Problem(path, f"{difference} as {first_path}", code="geometry"))
        if path == seg:
            others = sorted({float(value) for value in np.unique(array[np.isfinite(array)])} - set(seg_values))
            if others:
                shown = ", ".join(f"{value:g}" for value in others[:5])
                problems.append(
                    Problem(path, f"holds labels {shown}; expected only {sorted(seg_values)}", code="labels")
                )
        elif not array.any():
            problems.append(Problem(path, "has nothing but zeros; there is no image", code="blank"))
    return problems


def run_checks(
    check: Callable[..., list[Problem]], cases: Sequence[Mapping[str, Any]], workers: int | Place | None = None
) -> list[Problem]:
    """Call ``check(**case)`` for every case in threads (inflating releases Python's lock), with a progress bar.

    Args:
        check: lists the problems of one case.
        cases: arguments of ``check`` for each case.
        workers: number of threads, by default one per CPU, at most 8; or a place such as `monai_ext.places.Dask`.
    """
    place = place_of(workers, Threads)
    return [
        problem
        for problems in run_in_order(lambda case: check(**case), cases, place, "checking")
        for problem in problems
    ]
