"""Reading 3-D volumes with errors that name the file and the fault in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.utils import MetaKeys, SpaceKeys
from nibabel.volumeutils import apply_read_scaling

from monai_ext.data.geometry import Geometry, nifti_geometry
from monai_ext.data.meta_image_file import meta_image_data, stored_meta_image
from monai_ext.data.mgh_file import stored_mgh
from monai_ext.data.nifti_file import image_beside, stored_nifti
from monai_ext.data.nrrd_file import nrrd_data, stored_nrrd
from monai_ext.data.problems import warn_once
from monai_ext.data.reading import reading
from monai_ext.data.sizes import check_claim, claimed_bytes
from monai_ext.data.walk import stem_of, suffix_of
from monai_ext.errors import DataError

# In any case. An ``.img``, ``.raw`` or ``.zraw`` belongs to the header beside it.
SUFFIXES = (".nii.gz", ".nii", ".npy", ".nrrd", ".nhdr", ".mha", ".mhd", ".mgz", ".mgh", ".hdr")


def volume_suffix(path: str | Path) -> str | None:
    """The one of `SUFFIXES` that a file's name ends in, in lower case; None for other files."""
    return suffix_of(path, SUFFIXES)


def volume_stem(path: str | Path) -> str | None:
    """File name without its suffix, see `volume_suffix`; None for other files."""
    return stem_of(path, SUFFIXES)


def files_of(path: str | Path) -> list[Path]:
    """A volume's file, and the one beside it that holds its voxels where it is a header only.

    Raises:
        DataError: for a header that can't be read, or without its voxels.
    """
    path = Path(path)
    beside = {".hdr": image_beside, ".nhdr": nrrd_data, ".mhd": meta_image_data}.get(volume_suffix(path) or "")
    if beside is None:
        return [path]
    with reading(path):
        return [path, beside(path)]


def read_volume(path: str | Path) -> MetaTensor:
    """Read one 3-D volume: NIfTI, NRRD, MetaImage, FreeSurfer, or numpy (nothing pickled; unit affine).

    Whatever a header claims, no more memory is taken than the file can fill.

    Returns:
        float32, channel first (1, X, Y, Z) in the file's own axis order, with the affine in mm, RAS+. In its ``meta``
        are the fields of a NIfTI header, and ``geometry_note``: what was passed over in the geometry, or "".

    Raises:
        DataError: with the path and the reason: missing, empty, truncated, not an image, not 3-D, complex, colour,
            without a geometry, larger than the file can be.
    """
    path = Path(path)
    suffix = volume_suffix(path)
    if suffix is None:
        raise DataError(f"is not a volume this program reads; expected one of {', '.join(SUFFIXES)}", path)
    fields: dict[str, Any] = {}
    with reading(path):
        if suffix in (".nii", ".nii.gz", ".hdr"):
            header, stored = stored_nifti(path)
            geometry = nifti_geometry(header, path)
            voxels, fields = apply_read_scaling(stored, *header.get_slope_inter()), dict(header)
        else:
            voxels, geometry = _STORED[suffix](path)
        with np.errstate(over="ignore"):  # infinite voxels are looked for later, by an explicit policy
            voxels = np.require(voxels, np.float32, ["C", "W"])
    if geometry.note:
        warn_once(str(path), geometry.note)
    meta = {
        **fields,
        MetaKeys.ORIGINAL_AFFINE: geometry.affine.copy(),
        MetaKeys.SPATIAL_SHAPE: np.array(voxels.shape),
        MetaKeys.SPACE: SpaceKeys.RAS,
        MetaKeys.ORIGINAL_CHANNEL_DIM: float("nan"),
        "filename_or_obj": str(path),
        "geometry_note": geometry.note,
    }
    return MetaTensor(torch.from_numpy(voxels[None]), affine=torch.from_numpy(geometry.affine), meta=meta)


def read_nifti(path: str | Path) -> tuple[Any, np.ndarray]:
    """Read the header and the voxels of one 3-D NIfTI file as they are stored: not scaled, not reordered.

    nibabel's images forget the header's own slope and intercept; here they are ``header["scl_slope"]`` and
    ``header["scl_inter"]``. Its affine: `monai_ext.data.geometry.nifti_geometry`.

    Returns:
        nibabel's header, and the voxels (X, Y, Z), read-only, in the file's own type and axis order.

    Raises:
        DataError: with the path and the reason, see `read_volume`.
    """
    path = Path(path)
    with reading(path):
        return stored_nifti(path)


def read_channels(paths: str | Path | Sequence[str | Path]) -> MetaTensor:
    """Read one volume, or several as the channels of one image (C, X, Y, Z); see `read_volume`.

    Raises:
        DataError: also when a channel has another shape or affine (by more than 1e-3) than the first.
    """
    files = [paths] if isinstance(paths, str | Path) else list(paths)
    volumes = [read_volume(file) for file in files]
    for file, volume in zip(files[1:], volumes[1:], strict=True):
        difference = geometry_difference(volumes[0], volume)
        if difference:
            raise DataError(f"{difference} as {files[0]}; the channels of a case must lie on one grid", file)
    # torch.cat keeps the meta data of the first
    return volumes[0] if len(volumes) == 1 else torch.cat(volumes)


def geometry_difference(first: MetaTensor, second: MetaTensor) -> str:
    """The difference between the grids of two volumes, or an empty string."""
    if first.shape != second.shape:
        return f"does not have the same shape {tuple(second.shape[1:])} against {tuple(first.shape[1:])}"
    if not np.allclose(first.affine, second.affine, atol=1e-3):
        return "does not have the same affine"
    return ""


def stored_npy(path: Path) -> tuple[np.ndarray, Geometry]:
    """Values of a numpy file as they are stored, mapped; raises as `read_volume`."""
    with open(path, "rb") as file:
        version = np.lib.format.read_magic(file)
        # the others' headers may be as long as they claim
        if version != (1, 0):
            raise DataError(f"is numpy's format {version[0]}.{version[1]}; save it again with numpy", path)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        offset = file.tell()
    if dtype.hasobject:
        raise DataError("is not a plain numpy array (it holds pickled objects, which are never loaded)", path)
    if dtype.kind not in "biuf":
        raise DataError(f"holds values of type {dtype}; expected integers or floats", path, code="format")
    if len(shape) != 3:
        raise DataError(f"expected one 3-D volume, got {len(shape)} dimensions of shape {shape}", path, code="format")
    check_claim(claimed_bytes(shape, dtype.itemsize, path), path.stat().st_size - offset, path)
    return np.load(path, mmap_mode="r", allow_pickle=False), Geometry(np.eye(4))


_STORED = {
    ".npy": stored_npy,
    **dict.fromkeys((".nrrd", ".nhdr"), stored_nrrd),
    **dict.fromkeys((".mha", ".mhd"), stored_meta_image),
    **dict.fromkeys((".mgz", ".mgh"), stored_mgh),
}
