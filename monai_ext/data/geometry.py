"""The affine of a volume in mm, or one sentence that says why its header has none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from monai_ext.errors import DataError

# Cosine of the angle between two axes, about 0.6 degrees; headers in single precision stay below 1e-5.
MAX_SHEAR = 0.01
# Length of a voxel's edge in mm: cells in microscopes and whole bodies lie well inside.
_EDGES = 1e-7, 1e5
# Of the units that a NIfTI header may name.
MM_PER_UNIT = {"unknown": 1.0, "mm": 1.0, "micron": 1e-3, "meter": 1e3}


class Geometry(NamedTuple):
    """Position of a volume's voxels.

    Args:
        affine: (4, 4) float64, from voxel indices to mm, RAS+.
        note: a sentence about what was passed over in the header; empty when nothing was.
    """

    affine: np.ndarray
    note: str = ""


def fault_of(affine: np.ndarray) -> str:
    """The reason why an affine is no geometry: NaN, zero or singular, sheared; an empty string when it is one."""
    columns = np.asarray(affine, dtype=np.float64)[:3, :3]
    if not np.isfinite(affine).all():
        return "holds NaN or infinity"
    edges = np.linalg.norm(columns, axis=0)
    if edges.min() < _EDGES[0] or edges.max() > _EDGES[1]:
        return f"has voxels of {' x '.join(f'{edge:g}' for edge in edges)} mm"
    cosines = np.abs((columns / edges).T @ (columns / edges))[np.triu_indices(3, 1)]
    if abs(np.linalg.det(columns / edges)) < 1e-3:
        return "is singular (two axes run the same way)"
    if cosines.max() > MAX_SHEAR:
        return f"is sheared by {90 - math.degrees(math.acos(cosines.max())):.1f} degrees"
    return ""


def checked_affine(affine: np.ndarray, path: str | Path) -> np.ndarray:
    """The affine as float64, when it is a geometry.

    Args:
        affine: (4, 4), to mm.
        path: of the volume, for the error message.

    Raises:
        DataError: for an affine that is zero, singular, not finite or sheared.
    """
    if fault := fault_of(affine):
        raise DataError(_sentence({"affine": fault}), path, code="geometry")
    return np.asarray(affine, dtype=np.float64)


def nifti_geometry(header: Any, path: str | Path) -> Geometry:
    """The affine of a NIfTI header: its sform, else its qform, else (both codes 0) its voxel sizes; in mm.

    An sform that is no geometry is passed over where the qform is one, with a note.

    Args:
        header: nibabel's.
        path: of the volume, for the error message.

    Raises:
        DataError: when neither is a geometry: zero, singular, not finite, sheared.
    """
    scale = np.diag([*[MM_PER_UNIT[unit_of(header)]] * 3, 1.0])
    coded = [name for name in ("sform", "qform") if int(header[f"{name}_code"]) > 0]
    note = "" if coded else "doesn't say which way its axes run (no sform, no qform); left and right may be swapped"
    faults: dict[str, str] = {}
    for name in coded or ["pixdim"]:
        affine, fault = _affine(header, name)
        affine = scale @ affine
        if fault := fault or fault_of(affine):
            faults[name] = fault
            continue
        if faults:
            note = f"has an sform that {faults['sform']}; its qform is used"
        return Geometry(affine, note)
    raise DataError(_sentence(faults), path, code="geometry")


def unit_of(header: Any) -> str:
    """The unit of length of a NIfTI header, one of `MM_PER_UNIT`; "unknown" for a code that NIfTI doesn't have."""
    try:
        return str(header.get_xyzt_units()[0])
    except KeyError:
        return "unknown"


def _affine(header: Any, name: str) -> tuple[np.ndarray, str]:
    try:
        if name == "pixdim":
            return np.asarray(header.get_base_affine(), dtype=np.float64), ""
        return np.asarray(getattr(header, f"get_{name}")(), dtype=np.float64), ""
    except Exception as error:  # a quaternion longer than 1, or NaN: nibabel's reasons are many
        return np.eye(4), f"can't be computed ({error})"


def _sentence(faults: Mapping[str, str]) -> str:
    found = " and ".join(f"its {name} {fault}" for name, fault in faults.items())
    return f"has no usable geometry: {found}; repair its header, or convert it again"
