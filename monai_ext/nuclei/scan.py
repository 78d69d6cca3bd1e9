"""One nucleus on disk: its files and their headers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from monai_ext.data.crop_grid import Position, crop_grid
from monai_ext.data.problems import Problem
from monai_ext.data.tiff_slices import SUFFIXES, SliceFile, list_slices
from monai_ext.data.tiff_stack import TiffStack
from monai_ext.data.walk import entries, suffix_of
from monai_ext.errors import DataError
from monai_ext.nuclei.samples import SampleFolder


@dataclass(frozen=True)
class Nucleus:
    """A sample with its files and crops.

    Args:
        case: sample id, the name of its folder.
        class_id: as in the class CSV; None when unknown.
        class_name: as in the class CSV; None when unknown.
        image: the stack (Z, Y, X).
        mask: stack of the same shape, not zero in the nucleus; None when masks are not read.
        stamp: changes with the names, sizes and times of the files.
        crops: first voxel (z, y, x) of each crop.
        nucleus: fraction of each crop's voxels that lie in the nucleus, 0 to 1; None when not measured.
        patient: whose nucleus it is, as in the class CSV; None when that doesn't say it.
    """

    case: str
    class_id: int | None
    class_name: str | None
    image: TiffStack
    mask: TiffStack | None
    stamp: str
    crops: tuple[Position, ...]
    nucleus: tuple[float, ...] | None = None
    patient: str | None = None


@dataclass(frozen=True)
class ListedSample:
    """A sample whose files are known by name, size and time; ``strays`` are those that aren't used."""

    sample: SampleFolder
    raw: list[SliceFile]
    mask: list[SliceFile] | None
    strays: tuple[Path, ...] = ()

    @property
    def stamp(self) -> str:
        return digest([self.raw, self.mask])


def list_sample(sample: SampleFolder, with_mask: bool) -> ListedSample | Problem:
    """List the files of a sample, with those of its mask when ``with_mask``."""
    try:
        raw = list_slices(sample.folder / "raw")
        mask = list_slices(sample.folder / "mask") if with_mask else None
        if mask is not None:
            compare_names(sample.folder, raw, mask)
        return ListedSample(sample, raw, mask, strays(sample.folder))
    except DataError as error:
        return Problem.of(error, sample.folder)


def strays(folder: Path) -> tuple[Path, ...]:
    """What lies in the folder of a sample beside ``raw`` and ``mask`` and their TIFF slices, hidden files left out."""
    below = [entry for entry in entries(folder) if entry.name not in ("raw", "mask")]
    for stack in (folder / "raw", folder / "mask"):
        if stack.is_dir():
            below += [entry for entry in entries(stack) if suffix_of(entry, SUFFIXES) is None]
    return tuple(below)


def why_stray(path: Path) -> str:
    """The reason why one of `strays` isn't used."""
    return f"no TIFF slice ({', '.join(SUFFIXES)})" if path.parent.name in ("raw", "mask") else "neither raw nor mask"


def compare_names(folder: Path, raw: Sequence[SliceFile], mask: Sequence[SliceFile]) -> None:
    """Refuse a mask whose files aren't named as those of the image.

    Args:
        folder: of the sample.
        raw: files of the image.
        mask: files of the mask.

    Raises:
        DataError: naming the first file that is missing on one side.
    """
    names = {"raw": [file.name for file in raw], "mask": [file.name for file in mask]}
    for here, there in (("mask", "raw"), ("raw", "mask")):
        missing = sorted(set(names[there]) - set(names[here]))
        if missing:
            more = f" (and {len(missing) - 1} more slices)" if len(missing) > 1 else ""
            raise DataError(f"is missing{more}; {there}/{missing[0]} has no counterpart", folder / here / missing[0])


def scan_sample(listed: ListedSample, crop_size: Position, measure: bool) -> Nucleus | Problem:
    """Read the headers of a sample and place its crops; read its mask only when ``measure``."""
    folder, sample = listed.sample.folder, listed.sample
    try:
        image = TiffStack.scan(folder / "raw", listed.raw)
        mask = TiffStack.scan(folder / "mask", listed.mask, mask=True) if listed.mask is not None else None
        if mask is not None and mask.shape != image.shape:
            raise DataError(f"has shape {mask.shape}, but raw has {image.shape}", mask.folder)
        crops = tuple(crop_grid(image.shape, crop_size))
        nucleus = nucleus_fractions(mask, crops, crop_size) if measure and mask is not None else None
    except DataError as error:
        return Problem.of(error, folder)
    return Nucleus(
        sample.case, sample.class_id, sample.class_name, image, mask, listed.stamp, crops, nucleus, sample.patient
    )


def decode_sample(sample: Nucleus) -> None:
    """Read every slice of a sample, as training does.

    Raises:
        DataError: naming a slice that can't be decoded, or has pixels that are NaN or infinite.
    """
    for stack in [sample.image, *([sample.mask] if sample.mask is not None else [])]:
        for z in range(stack.shape[0]):
            check_finite(stack.read_slice(z), stack.path(z))


def check_finite(pixels: np.ndarray, path: Path) -> None:
    """Refuse a slice with pixels that are NaN or infinite.

    Raises:
        DataError: naming the file.
    """
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise DataError("has pixels that are NaN or infinite", path, "not-finite")


def nucleus_fractions(mask: TiffStack, crops: Sequence[Position], crop_size: Position) -> tuple[float, ...]:
    """Fraction of each crop's voxels (padding included) where the mask isn't zero; every slice is read once."""
    counts = dict.fromkeys(crops, 0)
    for z, group in groupby(crops, key=lambda crop: crop[0]):
        row = list(group)
        for plane in range(z, min(z + crop_size[0], mask.shape[0])):
            inside = mask.read_slice(plane) != 0
            for crop in row:
                _, y, x = crop
                counts[crop] += int(inside[y : y + crop_size[1], x : x + crop_size[2]].sum())
    return tuple(counts[crop] / float(np.prod(crop_size)) for crop in crops)


def digest(content: Any) -> str:
    """A short hash of lists, numbers and text."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
