"""A volume file as a series of slices."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.affines import voxel_sizes

from monai_ext.data.volumes import read_volume
from monai_ext.spine.image import SeriesImage

# Fields of the geometry; all others may identify the patient.
_PLACE = (
    *("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("srow_x", "srow_y", "srow_z", "xyzt_units", "dim_info", "pixdim"),
)
# least ratio of slice distance and pixel size
_THICK = 1.2


def read_volume_series(path: Path) -> SeriesImage:
    """Read a volume as a series; see `slice_axis_of` for the axis of its slices.

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
    axis = slice_axis_of(affine, int(meta.get("dim_info", 0)))
    return SeriesImage(np.asarray(volume[0], dtype=np.float32), affine, axis, header=header, geometry_note=note)


def slice_axis_of(affine: np.ndarray, dim_info: int = 0) -> int:
    """The slice axis of the header, else the axis with the largest voxels, else (equal sizes) the one nearest to
    left-right, as for sagittal slices."""
    if named := dim_info >> 4 & 3:
        return named - 1
    sizes = voxel_sizes(affine)
    thickest = int(np.argmax(sizes))
    if sizes[thickest] > _THICK * np.sort(sizes)[1]:
        return thickest
    return int(np.argmin(nib.orientations.io_orientation(affine)[:, 0]))
