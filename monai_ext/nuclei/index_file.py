"""The index of a dataset of nuclei as a CSV, one row per crop."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from monai_ext.data.crop_grid import Position, crop_grid
from monai_ext.data.problems import Problem
from monai_ext.data.tiff_slices import SliceFile
from monai_ext.data.tiff_stack import TiffStack, pack_stamps
from monai_ext.errors import DataError
from monai_ext.io import read_csv, write_csv
from monai_ext.nuclei.scan import ListedSample, Nucleus

logger = logging.getLogger(__name__)

COLUMNS = (
    *("sample_id", "class_id", "class_name", "depth", "height", "width", "dtype", "offsets", "mask_dtype"),
    *("mask_offsets", "crop_z", "crop_y", "crop_x", "nucleus", "problem"),
)


def write_index(path: Path, samples: Sequence[Nucleus], problems: Sequence[Problem]) -> None:
    """Write one row per crop, and one per problem."""
    rows: list[dict[str, Any]] = []
    for sample in samples:
        image, mask = sample.image, sample.mask
        shared = {
            "sample_id": sample.case,
            "class_id": sample.class_id,
            "class_name": sample.class_name,
            **dict(zip(("depth", "height", "width"), image.shape, strict=True)),
            "dtype": image.dtype,
            "offsets": _pack(image.offsets),
            "mask_dtype": mask.dtype if mask is not None else "",
            "mask_offsets": _pack(mask.offsets) if mask is not None else "",
        }
        for crop, fraction in zip(sample.crops, sample.nucleus or [None] * len(sample.crops), strict=True):
            rows.append({**shared, **dict(zip(("crop_z", "crop_y", "crop_x"), crop, strict=True)), "nucleus": fraction})
    rows += [
        {"sample_id": Path(problem.path).name, "problem": f"{problem.path}: {problem.message}"} for problem in problems
    ]
    write_csv(path, rows, COLUMNS)


def read_index(path: Path, listed: Sequence[ListedSample], crop_size: Position) -> dict[str, Nucleus]:
    """Read the entries of these samples; none, with a warning, when the file is damaged."""
    try:
        rows = [row for row in read_csv(path, COLUMNS[:1]) if not row["problem"]]
        groups = {case: list(group) for case, group in groupby(rows, key=lambda row: row["sample_id"])}
        return {
            one.sample.case: _restore(one, groups[one.sample.case], crop_size)
            for one in listed
            if one.sample.case in groups
        }
    except (DataError, KeyError, TypeError, ValueError) as error:
        logger.warning("the index %s is damaged (%s); it is made again", path, error)
        return {}


def _restore(listed: ListedSample, rows: Sequence[dict[str, str]], crop_size: Position) -> Nucleus:
    sample, first = listed.sample, rows[0]
    shape = (int(first["depth"]), int(first["height"]), int(first["width"]))
    crops = tuple((int(row["crop_z"]), int(row["crop_y"]), int(row["crop_x"])) for row in rows)
    if shape[0] != len(listed.raw) or list(crops) != crop_grid(shape, crop_size):
        raise ValueError(f"wrong crops of sample {sample.case}")
    nucleus = tuple(float(row["nucleus"]) for row in rows) if first["nucleus"] else None
    image = _stack(sample.folder / "raw", listed.raw, shape, first["dtype"], first["offsets"])
    mask = None
    if listed.mask is not None:
        mask = _stack(sample.folder / "mask", listed.mask, shape, first["mask_dtype"], first["mask_offsets"])
    return Nucleus(
        sample.case, sample.class_id, sample.class_name, image, mask, listed.stamp, crops, nucleus, sample.patient
    )


def _stack(folder: Path, files: Sequence[SliceFile], shape: Position, dtype: str, packed: str) -> TiffStack:
    offsets = _unpack(packed)
    if offsets is not None and len(offsets) != len(files):
        raise ValueError(f"{len(offsets)} offsets for {len(files)} slices of {folder}")
    names = tuple(file.name for file in files)
    return TiffStack(str(folder), names, shape, np.dtype(dtype).str, offsets, pack_stamps(files))


def _pack(offsets: tuple[int, ...] | None) -> str:
    """Equal neighbours counted: (8, 8, 8, 10) as "8x3 10x1"; "" for None."""
    return " ".join(f"{offset}x{len(list(group))}" for offset, group in groupby(offsets or ()))


def _unpack(text: str) -> tuple[int, ...] | None:
    pairs = [run.split("x") for run in text.split()]
    return tuple(int(offset) for offset, count in pairs for _ in range(int(count))) or None
