"""A chest CT in memory: stored values, viewed in a fixed orientation and converted slice by slice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

from monai_ext.ct_rate.hounsfield import Reading, Rescale, choose_reading, contradiction, window
from monai_ext.data.geometry import nifti_geometry
from monai_ext.data.volumes import read_nifti
from monai_ext.errors import DataError

# Patient's left, back and head: seen from the feet, the patient's right at the image's left, as radiologists do.
FRAME = ("L", "P", "S")


@dataclass(frozen=True)
class ChestCT:
    """A volume whose axes Z, Y, X run to the patient's head, back and left, whatever the file's own order.

    Args:
        stored: (Z, Y, X) view of the file's values, which ``reading`` converts to Hounsfield units.
        reading: how, and by whose word.
        affine: (4, 4), from indices (z, y, x) to mm in NIfTI's frame (x to the right, y to the front, z to the head).
        geometry_note: what was passed over in the header's geometry, such as that there is none; else empty.
        contradiction: what header or metadata table say otherwise of slope and intercept; empty where they don't.
        path: of the file.
    """

    stored: np.ndarray
    reading: Reading
    affine: np.ndarray
    geometry_note: str = ""
    contradiction: str = ""
    path: str = ""

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel edges along Z, Y, X in mm."""
        z, y, x = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(z), float(y), float(x)

    def hounsfield(self, part: slice | int = slice(None), step: int = 1) -> np.ndarray:
        """Slices (or one) as float32 Hounsfield units, every ``step``-th voxel in plane."""
        slope, intercept = self.reading.rescale
        return self.stored[part, ..., ::step, ::step].astype(np.float32) * np.float32(slope) + np.float32(intercept)

    def windowed(self, part: slice | int = slice(None)) -> np.ndarray:
        """Slices (or one) as a network gets them: float32, -1000…400 HU as 0…1."""
        return window(self.hounsfield(part))


def read_chest_ct(
    path: str | Path, rescale: Rescale | None = None, spacing: tuple[float, ...] | None = None
) -> ChestCT:
    """Read a chest CT.

    Args:
        path: one ``.nii.gz`` or ``.nii``.
        rescale: slope and intercept of the metadata table, where there is one; see `choose_reading`.
        spacing: voxel edges in mm along the file's Z, Y, X, from the metadata table, in place of the header's.

    Raises:
        DataError: with the path: damaged, not 3-D, without a usable affine, not finite, or no Hounsfield units by any
            reading, or by several that differ.
    """
    header, voxels = read_nifti(path)
    affine, note = nifti_geometry(header, path)
    edges = None if spacing is None else spacing[::-1]
    return chest_ct(voxels, affine, stated_rescale(header), rescale, edges, note, path)


def stated_rescale(header: Mapping[str, Any]) -> Rescale:
    """Slope and intercept of a NIfTI header; NaN says nothing.

    Args:
        header: nibabel's, or the metadata of an image; without the two fields they are NaN.
    """
    return float(header.get("scl_slope", np.nan)), float(header.get("scl_inter", np.nan))


def chest_ct(
    voxels: np.ndarray,
    affine: np.ndarray,
    stated: Rescale,
    rescale: Rescale | None = None,
    spacing: tuple[float, ...] | None = None,
    note: str = "",
    path: str | Path = "image in memory",
) -> ChestCT:
    """A chest CT of stored values.

    Args:
        voxels: (X, Y, Z), or any other order of axes.
        affine: (4, 4), from their indices to mm, RAS+.
        stated: slope and intercept of the header.
        rescale: see `read_chest_ct`.
        spacing: voxel edges in mm along the axes of ``voxels``, in place of the affine's.
        note: what was passed over in the geometry.
        path: of the file, for messages.

    Raises:
        DataError: for voxels that aren't finite, or see `read_chest_ct`.
    """
    if not np.isfinite([voxels.min(), voxels.max()]).all():
        count = int(voxels.size - np.isfinite(voxels).sum())
        raise DataError(
            f"has {count} of {voxels.size} voxels that are NaN or infinite; repair or remove it", path, "not-finite"
        )
    reading = choose_reading(voxels, stated, rescale, path)
    affine = np.array(affine, np.float64)
    if spacing is not None:
        columns = affine[:3, :3]
        affine[:3, :3] = columns / np.linalg.norm(columns, axis=0) * np.asarray(spacing)
    reoriented, affine = _reoriented(voxels, affine)
    return ChestCT(reoriented, reading, affine, note, contradiction(reading, stated, rescale), str(path))


def _reoriented(voxels: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A view of the voxels (X, Y, Z) as Z, Y, X in the fixed frame, and its affine."""
    turn = ornt_transform(io_orientation(affine), axcodes2ornt(FRAME))
    affine = affine @ inv_ornt_aff(turn, voxels.shape)
    # X, Y, Z → Z, Y, X
    return apply_orientation(voxels, turn).transpose(2, 1, 0), affine[:, [2, 1, 0, 3]]
