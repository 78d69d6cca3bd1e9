"""Check of sets of volumes: all problems at once, before a run fails at the first."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zarr

from monai_ext.blocks import run_in_order
from monai_ext.data.normals import decode_normals
from monai_ext.data.patches_blocks import block_layout
from monai_ext.data.problems import Problem
from monai_ext.data.volumes_zarr import channel_axis, open_volume
from monai_ext.data.walk import entries
from monai_ext.errors import DataError
from monai_ext.places import Place, Threads, place_of
from monai_ext.surface.sets import HOW_TO_GET, SUFFIX, array_in, check_type, is_array, not_in_sets, volume_folders

# A unit vector stored as uint8 is at most 0.014 off.
_LENGTH_TOLERANCE = 0.1
_SHOWN = 3


def check(dataset_dir: str | Path, workers: int | Place | None = None) -> list[Problem]:
    """Read every stored chunk of every label, and the input there, and list all problems; an empty list means that none
    was found.

    Each ``<name>.zarr`` beside an ``input.zarr`` counts as a target, and holds normals when it has three channels and
    "normal" in its name. Each worker holds one block in memory.

    Args:
        dataset_dir: folder with ``input.zarr``, or with folders that have one; see `volume_sets`.
        workers: threads, or a place such as `monai_ext.places.Dask`; default one per CPU, at most 8.

    Returns:
        The problems: "error" where a run would fail or learn nonsense, else "warning".
    """
    try:
        folders = volume_folders(dataset_dir)
    except DataError as error:
        return [Problem.of(error, dataset_dir)]
    if not folders:
        return [Problem(str(dataset_dir), f"no input{SUFFIX} here or in a folder below; {HOW_TO_GET}")]
    found = [problem for folder in folders for problem in _check_set(folder, workers)]
    return [*not_in_sets(dataset_dir), *found]


def _check_set(folder: Path, workers: int | Place | None) -> list[Problem]:
    place = array_in(folder, "input") or folder / f"input{SUFFIX}"
    try:
        volume = open_volume(place)
        check_type(volume.dtype, "iuf", str(place))
    except DataError as error:
        return [Problem.of(error, place)]
    if volume.ndim != 3:
        return [Problem(str(place), f"the input must have three axes (Z, Y, X), got the shape {volume.shape}")]
    targets = sorted(path for path in entries(folder) if is_array(path) and path != place)
    if not targets:
        return [Problem(str(folder), f"has no target beside input{SUFFIX}, such as sheet{SUFFIX}")]
    return [problem for target in targets for problem in _check_target(target, place, volume, workers)]


def _check_target(place: Path, input_place: Path, volume: zarr.Array, workers: int | Place | None) -> list[Problem]:
    try:
        array = open_volume(place)
        check_type(array.dtype, "biuf", str(place))
        axis = channel_axis(array.shape, volume.shape)
    except DataError as error:
        return [Problem.of(error, place)]
    normals = axis is not None and array.shape[axis] == 3 and "normal" in place.stem
    if normals and array.dtype.kind != "f" and array.dtype not in (np.uint8, np.uint16):
        return [Problem(str(place), f"holds normals as {array.dtype}; they are read as uint8, uint16 or floats")]
    target = _Target(array, axis, normals, volume)
    starts, shape = target.blocks()
    title = f"{place.parent.name}/{place.name}"
    check_block = functools.partial(target.check_block, shape=shape)
    return _summary(run_in_order(check_block, starts, place_of(workers, Threads), title, "block"), place, input_place)


@dataclass(frozen=True)
class _Block:
    """Counts of one block; ``unreadable`` and ``input_unreadable`` say why its label or input can't be read."""

    start: tuple[int, ...]
    labelled: int = 0
    odd_normals: int = 0
    not_finite: int = 0
    input_not_finite: int = 0
    unreadable: str = ""
    input_unreadable: str = ""


@dataclass(frozen=True)
class _Target:
    array: zarr.Array
    axis: int | None
    normals: bool
    volume: zarr.Array

    def blocks(self) -> tuple[list[np.ndarray], np.ndarray]:
        """First voxels (Z, Y, X) of the blocks with something in them, and the voxels of each."""
        starts, shape = block_layout(self.array)
        if self.axis is not None:
            starts, shape = np.delete(starts, self.axis, axis=1), np.delete(shape, self.axis)
        return list(np.unique(starts, axis=0)), shape

    def check_block(self, start: np.ndarray, shape: np.ndarray) -> _Block:
        where = tuple(map(slice, start, start + shape))
        place = tuple(start.tolist())
        try:
            values = np.asarray(self.array[(slice(None), *where) if self.axis == 0 else where])
        except Exception as error:  # each codec and store has its own
            return _Block(place, unreadable=f"{type(error).__name__}: {error}")
        values = values[None] if self.axis is None else np.moveaxis(values, self.axis, 0)
        finite = np.isfinite(values).all(axis=0)
        labelled = values.any(axis=0)
        odd = 0
        if self.normals:
            length = np.linalg.norm(decode_normals(values, channel_axis=0), axis=0)
            odd = int((np.abs(length - 1) > _LENGTH_TOLERANCE)[labelled & finite].sum())
        lost, problem = 0, ""
        if labelled.any():
            try:
                lost = int((~np.isfinite(np.asarray(self.volume[where])))[labelled].sum())
            except Exception as error:  # each codec and store has its own
                problem = f"{type(error).__name__}: {error}"
        return _Block(place, int(labelled.sum()), odd, int((~finite).sum()), lost, input_unreadable=problem)


def _summary(blocks: Sequence[_Block], place: Path, input_place: Path) -> list[Problem]:
    problems = []
    for path, reasons in (
        (place, {block.start: block.unreadable for block in blocks if block.unreadable}),
        (input_place, {block.start: block.input_unreadable for block in blocks if block.input_unreadable}),
    ):
        if reasons:
            first = next(iter(reasons.values()))
            problems.append(Problem(str(path), f"{_counted(list(reasons))} can't be read ({first})"))
    labelled = sum(block.labelled for block in blocks)
    if not labelled and not problems:
        problems.append(Problem(str(place), "is empty: no voxel differs from 0"))
    odd = sum(block.odd_normals for block in blocks)
    if odd:
        severity = "error" if odd > 0.01 * labelled else "warning"
        found = f"{odd} of {labelled} normals have a length far from 1; are they stored as uint8, uint16 or float say?"
        problems.append(Problem(str(place), found, severity))
    for path, attribute, words in (
        (place, "not_finite", "voxels that are NaN or infinite"),
        (input_place, "input_not_finite", f"voxels that are NaN or infinite where {place.name} is labelled"),
    ):
        bad = {block.start: getattr(block, attribute) for block in blocks if getattr(block, attribute)}
        if bad:
            problems.append(Problem(str(path), f"{sum(bad.values())} {words}, in {_counted(list(bad))}"))
    return problems


def _counted(starts: Sequence[tuple[int, ...]]) -> str:
    shown = ", ".join(map(str, starts[:_SHOWN])) + (", ..." if len(starts) > _SHOWN else "")
    return f"{len(starts)} block{'s' if len(starts) > 1 else ''} at {shown}"
