"""A volume's name, labels and files, known without reading its voxels."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

SPLITS = ("train", "valid")
_NAME = re.compile(
    r"(?P<patient>(?P<split>train|valid)_(?P<number>\d+))_(?P<scan>[a-z]+)_(?P<reconstruction>\d+)\.nii\.gz"
)


class VolumeName(NamedTuple):
    """The parts of ``train_1_a_2.nii.gz``: patient ``train_1``, scan ``a``, reconstruction 2."""

    patient: str
    scan: str
    reconstruction: int


def parse_name(name: str) -> VolumeName | None:
    """Parts of a CT-RATE volume name; None for any other name."""
    match = _NAME.fullmatch(name)
    return VolumeName(match["patient"], match["scan"], int(match["reconstruction"])) if match else None


def order(name: str) -> tuple[object, ...]:
    """Sort key of names by split, patient, scan and reconstruction: train_9 before train_10."""
    match = _NAME.fullmatch(name)
    if match is None:
        return ("", 0, 0, "", 0, name)
    scan = match["scan"]  # after z comes aa
    return (match["split"], int(match["number"]), len(scan), scan, int(match["reconstruction"]), name)


@dataclass(frozen=True)
class Volume:
    """A volume, or its extracted slices.

    Args:
        name: as in the tables, with ``.nii.gz``.
        split: "train" or "valid", CT-RATE's own.
        patient: ``train_1``; no patient may be in two sets.
        labels: 0 or 1 in the order of `LABELS`; None when unknown.
        path: its file; empty when only the slices are there.
        rescale: slope and intercept of the metadata table; None when it has none.
        spacing: voxel edges along the file's Z, Y, X in mm, of the metadata table; None when it has none.
        stamp: size in bytes and modification time in ns of the file, for caches; without one, see
            `monai_ext.data.stamps.stamp_of`, of its slices.
        slices: index along Z and path of each extracted slice, ascending; empty when none are.
        manufacturer: of the scanner, of the metadata table; empty when it has none.
        scanner: its model, likewise.
        reading: how Hounsfield units were found when the slices were extracted; empty where that isn't known.
    """

    name: str
    split: str
    patient: str
    labels: tuple[int, ...] | None = None
    path: str = ""
    rescale: tuple[float, float] | None = None
    spacing: tuple[float, float, float] | None = None
    stamp: tuple[int, int] = (0, 0)
    slices: tuple[tuple[int, str], ...] = ()
    manufacturer: str = ""
    scanner: str = ""
    reading: str = ""
