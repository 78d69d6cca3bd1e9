"""Uncompressed NIfTI volumes as Zarr arrays: one chunk per plane, read in place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from nibabel.affines import voxel_sizes

from monai_ext.data.geometry import MM_PER_UNIT, nifti_geometry, unit_of
from monai_ext.data.nifti_file import NiftiPlace, nifti_place
from monai_ext.data.reading import reading
from monai_ext.errors import DataError

SUFFIXES = (".nii", ".nii.gz")
_UNITS = {"mm": "millimeter", "micron": "micrometer", "meter": "meter"}


def open_nifti(path: str | Path) -> zarr.Array:
    """A NIfTI volume as a read-only Zarr array (Z, Y, X), never read as a whole.

    Its voxels are in the file as those of an uncompressed Zarr array with chunks (1, Y, X), so a table of offsets is
    all that Zarr needs (fsspec's reference file system). Slope and intercept of the header are applied, to float32.
    Z, Y, X are the file's third, second and first axis, whatever its affine says; the size of a voxel is in the
    attributes, as in OME-Zarr.

    Raises:
        DataError: naming the file, when it is missing, compressed, truncated, no NIfTI, not 3-D, or has no geometry.
    """
    path = Path(path).absolute()
    if path.name.lower().endswith(".gz"):
        raise DataError("is compressed, so that no part of it can be read by itself; run `gunzip -k` on it", path)
    with reading(path):
        place = nifti_place(path)
        unit = unit_of(place.header)
        edges = voxel_sizes(nifti_geometry(place.header, path).affine) / MM_PER_UNIT[unit]
    x, y, z = place.shape
    plane = x * y * place.dtype.itemsize
    axes = [{"name": name, "type": "space", **({"unit": _UNITS[unit]} if unit in _UNITS else {})} for name in "zyx"]
    scale = {"type": "scale", "scale": [float(np.float32(edge)) for edge in edges[::-1]]}
    datasets = [{"path": ".", "coordinateTransformations": [scale]}]
    references: dict[str, Any] = {
        ".zarray": json.dumps(_array_metadata((z, y, x), place)),
        ".zattrs": json.dumps({"multiscales": [{"version": "0.4", "axes": axes, "datasets": datasets}]}),
        **{f"{number}.0.0": [str(path), place.offset + number * plane, plane] for number in range(z)},
    }
    return zarr.open_array(_store(references), mode="r", zarr_format=2)


def _array_metadata(shape: tuple[int, int, int], place: NiftiPlace) -> dict[str, Any]:
    given = place.header.get_slope_inter()
    slope, inter = 1.0 if given[0] is None else given[0], given[1] or 0.0
    scaled = (slope, inter) != (1, 0)
    # numcodecs divides by its scale
    scaling = {"id": "fixedscaleoffset", "scale": 1 / slope, "offset": inter, "dtype": "<f4"}
    return {
        "zarr_format": 2,
        "shape": shape,
        "chunks": (1, *shape[1:]),
        "dtype": "<f4" if scaled else place.dtype.str,
        "filters": [{**scaling, "astype": place.dtype.str}] if scaled else None,
        "compressor": None,
        "order": "C",
        "fill_value": None,
    }


def _store(references: dict[str, Any]) -> Any:
    import fsspec  # type: ignore[import-untyped]
    from zarr.storage import FsspecStore

    system = fsspec.filesystem("reference", fo=references, remote_protocol="file", asynchronous=True)
    return FsspecStore(system, read_only=True, path="")
