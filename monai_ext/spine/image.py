"""A series in memory: voxels as stored, their position in the patient, and slices in the orientation of networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.affines import voxel_sizes

# Directions of growing (slice, Y, X), by the world axis of the slices, as radiologists view them: the feet are down and
# the face is left (sagittal), or the patient's left is on the right (coronal and axial).
_DIRECTIONS = {"sagittal": "RIP", "coronal": "PIL", "axial": "SPL"}
# Of files without geometry, axes x, y, slice: rows run down and columns to the right, as in an axial slice.
UNKNOWN_AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])
# Least ratio of slice distance and pixel size; no quotient of usual sizes, which rounding would decide.
_THICK = 1.21


@dataclass(frozen=True)
class SeriesImage:
    """One series.

    Args:
        voxels: float32 (I, J, K), in the order of the axes in the file (DICOM and slices: column, row, slice).
        affine: (4, 4), from voxel indices to mm, RAS+.
        slice_axis: axis of ``voxels`` along which the slices were taken, 0 to 2.
        has_geometry: False for plain image files: mm and directions are then unknown, and a pixel counts as 1 mm.
        header: geometry fields of a NIfTI header; empty for other kinds.
        geometry_note: what was passed over in the header's geometry; else empty.
        sources: datasets of a DICOM series without pixels, one per file; may name the patient.
        frames: of slices that are frames of files, their numbers from 0 in the order of ``voxels``; else empty.
    """

    voxels: np.ndarray
    affine: np.ndarray
    slice_axis: int
    has_geometry: bool = True
    header: Mapping[str, Any] = field(default_factory=dict)
    geometry_note: str = ""
    sources: tuple[Any, ...] = field(default=(), repr=False, compare=False)
    frames: tuple[int, ...] = ()

    @property
    def plane(self) -> str:
        """``"sagittal"``, ``"coronal"``, ``"axial"`` (the nearest, of oblique slices), or ``"unknown"``."""
        return self._plane() if self.has_geometry else "unknown"

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance of slices and of pixels along Y and X of `slices`, in mm (pixels without geometry)."""
        sizes = voxel_sizes(self.affine)
        order = np.argsort(self._to_slices()[:, 0])
        return float(sizes[order[0]]), float(sizes[order[1]]), float(sizes[order[2]])

    @property
    def voxel_volume(self) -> float:
        """Volume of a voxel in mm³ (1 without geometry)."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    def slices(self) -> np.ndarray:
        """Slices (N, 1, Y, X), float32, in one orientation whatever the file's axes.

        Sagittal: from the patient's left to the right, head up, face left. Coronal: front to back, head up, the
        patient's left on the right. Axial: feet to head, face up, the patient's left on the right.
        """
        oriented = nib.orientations.apply_orientation(self.voxels, self._to_slices())
        return np.ascontiguousarray(oriented)[:, None]

    def restore(self, slices: np.ndarray) -> np.ndarray:
        """Slices back in the shape and axes of ``voxels``; keeps their type.

        Args:
            slices: (N, Y, X) or (N, 1, Y, X), in the order of `slices`.

        Raises:
            ValueError: for another number or size of slices than `slices` has.
        """
        slices = slices[:, 0] if slices.ndim == 4 and slices.shape[1] == 1 else slices
        forth = self._to_slices()
        expected = tuple(self.voxels.shape[axis] for axis in np.argsort(forth[:, 0]))
        if slices.shape != expected:
            raise ValueError(f"SeriesImage: slices must have the shape {expected} of the series, got {slices.shape}")
        back = nib.orientations.ornt_transform(_slice_orientation(self._plane()), self._orientation())
        return np.ascontiguousarray(nib.orientations.apply_orientation(slices, back))

    def _plane(self) -> str:
        return ("sagittal", "coronal", "axial")[int(self._orientation()[self.slice_axis, 0])]

    def _orientation(self) -> np.ndarray:
        return nib.orientations.io_orientation(self.affine)

    def _to_slices(self) -> np.ndarray:
        return nib.orientations.ornt_transform(self._orientation(), _slice_orientation(self._plane()))


def _slice_orientation(plane: str) -> np.ndarray:
    return nib.orientations.axcodes2ornt(_DIRECTIONS[plane])


def slice_axis_of(affine: np.ndarray, shape: Sequence[int]) -> int:
    """The axis along which a volume is sliced, whatever the order of its axes: that with the longest edge of a voxel,
    else (edges about equal) the only one of length 1, else the one nearest to left-right, as for sagittal slices.

    Args:
        affine: (4, 4), from voxel indices to mm.
        shape: of the volume.
    """
    sizes = voxel_sizes(affine)
    thickest = int(np.argmax(sizes))
    if sizes[thickest] > _THICK * np.sort(sizes)[1]:
        return thickest
    if list(shape).count(1) == 1:
        return list(shape).index(1)
    return int(np.argmin(nib.orientations.io_orientation(affine)[:, 0]))
