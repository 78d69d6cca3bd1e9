"""A volume file as a series of slices."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from monai_ext.data.volumes import read_volume
from monai_ext.spine.image import SeriesImage, slice_axis_of

# Fields of the geometry; all others may identify the patient.
_PLACE = (
    *("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("srow_x", "srow_y", "srow_z", "xyzt_units", "dim_info", "pixdim"),
)


def read_volume_series(path: Path) -> SeriesImage:
    """Read a volume as a series; see `slice_axis_of` for the axis of its slices.

    The header's ``dim_info`` doesn't count: converters reorder the axes and leave it.

    Args:
        path: one volume file, see `monai_ext.data.volumes.read_volume`.

    Raises:
        DataError: naming the file that is damaged, not 3-D, or has no usable geometry.
    """
    volume = read_volume(path)
    affine = np.asarray(volume.affine, dtype=np.float64)
    meta, note = volume.meta, volume.meta["geometry_note"]
    # A header whose sform was passed over, or of another format, isn't copied to the results.
    header = {} if note or "pixdim" not in meta else {name: meta[name] for name in _PLACE}
    voxels = np.asarray(volume[0], dtype=np.float32)
    axis = slice_axis_of(affine, voxels.shape)
    return SeriesImage(voxels, affine, axis, header=header, geometry_note=note)
