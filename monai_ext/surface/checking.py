"""Check of sets of volumes: all problems at once, before a run fails at the first."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from monai_ext.blocks import run_in_order
from monai_ext.data.normals import decode_normals
from monai_ext.data.patches_blocks import block_layout
from monai_ext.data.problems import Problem
from monai_ext.data.volume_view import Volume
from monai_ext.data.volumes_zarr import array_source, channel_axis, open_volume, stored_chunks
from monai_ext.errors import DataError
from monai_ext.places import Place, Threads, place_of
from monai_ext.surface.folders import HOW_TO_GET, SUFFIX, arrays_in, not_in_sets, volume_folders
from monai_ext.surface.sets import check_type

# A unit vector stored as uint8 is at most 0.014 off.
_LENGTH_TOLERANCE = 0.1
_SHOWN = 3


def check(
    dataset_dir: str | Path,
    workers: int | Place | None = None,
    level: int = 0,
    channel: int | None = None,
    timepoint: int | None = None,
    ignore_label: float | None = None,
) -> list[Problem]:
    """Read every stored chunk of every label, and the input there, and list all problems; an empty list means that none
    was found.

    Each ``<name>.zarr`` beside an ``input.zarr`` counts as a target, and holds normals when it has three channels and
    "normal" in its name. Each worker holds one block in memory.

    Args:
        dataset_dir: folder with ``input.zarr``, or with folders that have one; see `volume_sets`.
        workers: threads, or a place such as `monai_ext.places.Dask`; default one per CPU, at most 8.
        level: resolution level of OME-Zarr images, see `volume_sets`.
        channel: of inputs that have several, see `volume_sets`.
        timepoint: of volumes that have several, see `volume_sets`.
        ignore_label: value of label maps that is no label.

    Returns:
        The problems: "error" where a run would fail or learn nonsense, else "warning".
    """
    try:
        folders = volume_folders(dataset_dir)
    except DataError as error:
        return [Problem.of(error, dataset_dir)]
    if not folders:
        return [Problem(str(dataset_dir), f"no input{SUFFIX} here or in a folder below; {HOW_TO_GET}")]
    chosen = {"level": level, "channel": channel, "timepoint": timepoint}
    found = [problem for folder in folders for problem in _check_set(folder, workers, chosen, ignore_label)]
    return [*not_in_sets(dataset_dir), *found]


def _check_set(
    folder: Path, workers: int | Place | None, chosen: dict[str, Any], ignore_label: float | None
) -> list[Problem]:
    arrays = arrays_in(folder)
    place = arrays.pop("input")
    try:
        volume = open_volume(array_source(place, **chosen))
        check_type(volume.dtype, "iuf", str(place))
        empty = not len(stored_chunks(volume))
    except DataError as error:
        return [Problem.of(error, place)]
    targets = sorted(arrays.values())
    if empty:
        return [Problem(str(place), "has no stored chunk: every voxel is 0; copy it again")]
    if not targets:
        return [Problem(str(folder), f"has no target beside input{SUFFIX}, such as sheet{SUFFIX}")]
    own = {**chosen, "channel": None}
    found = []
    for target in targets:
        try:
            found += _check_target(target, place, volume, workers, own, ignore_label)
        except DataError as error:
            found.append(Problem.of(error, target))
    return found


def _check_target(
    place: Path,
    input_place: Path,
    volume: Volume,
    workers: int | Place | None,
    chosen: dict[str, Any],
    ignore_label: float | None,
) -> list[Problem]:
    array = open_volume(array_source(place, **chosen), channels=True)
    axis = channel_axis(array.shape, volume.shape)
    normals = axis is not None and array.shape[axis] == 3 and "normal" in place.name
    if normals and array.dtype.kind != "f" and array.dtype not in (np.uint8, np.uint16):
        return [Problem(str(place), f"holds normals as {array.dtype}; they are read as uint8, uint16 or floats")]
    vectors = normals or array.dtype.kind == "f"
    target = _Target(array, axis, normals, volume, None if vectors else ignore_label)
    starts, shape = target.blocks()
    title = f"{place.parent.name}/{place.name}"
    check_block = functools.partial(target.check_block, shape=shape)
    blocks = run_in_order(check_block, starts, place_of(workers, Threads), title, "block")
    return _summary(blocks, place, input_place, target.ignore_label)


@dataclass(frozen=True)
class _Block:
    """Counts of one block; ``unreadable`` and ``input_unreadable`` say why its label or input can't be read."""

    start: tuple[int, ...]
    labelled: int = 0
    odd_normals: int = 0
    not_finite: int = 0
    input_not_finite: int = 0
    ignored: int = 0
    unreadable: str = ""
    input_unreadable: str = ""


@dataclass(frozen=True)
class _Target:
    array: Volume
    axis: int | None
    normals: bool
    volume: Volume
    ignore_label: float | None

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
        ignored = 0
        if self.ignore_label is not None:
            left_out = (values == self.ignore_label).any(axis=0)
            ignored, labelled = int(left_out.sum()), labelled & ~left_out
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
        return _Block(
            place, int(labelled.sum()), odd, int((~finite).sum()), lost, input_unreadable=problem, ignored=ignored
        )


def _summary(blocks: Sequence[_Block], place: Path, input_place: Path, ignore_label: float | None) -> list[Problem]:
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
        ignored = sum(block.ignored for block in blocks)
        but = f" but {ignored} with ignore_label {ignore_label:g}" if ignored else ""
        problems.append(Problem(str(place), f"is empty: no voxel differs from 0{but}"))
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
