"""Training slices out of volumes, cut exactly as inference cuts them; masks are brought to the grid of their image."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine

from monai_ext.data.slice_cache import SliceCache
from monai_ext.data.stamps import stamps_of
from monai_ext.data.volumes import read_volume
from monai_ext.data.walk import suffix_of
from monai_ext.errors import DataError
from monai_ext.spine.dicom_seg import read_dicom_seg
from monai_ext.spine.image import SeriesImage
from monai_ext.spine.nifti import read_volume_series
from monai_ext.spine.series import VOLUME_SUFFIXES, find_series

# Largest distance of the corners of a mask and its image, in parts of the smallest edge of a voxel.
_MOST_APART = 0.1
# Slices of the volumes that were read last: a training draws them in any order.
_KEPT = SliceCache(max_stacks=10_000, max_bytes=1 << 29)
_LOCK = threading.Lock()
# Where the voxels of images lie, without their values.
_GRIDS: dict[tuple[str, str], SeriesImage] = {}


def image_slices(path: str | Path) -> np.ndarray:
    """Slices of a volume (N, Y, X), float32, in the order and orientation in which inference sees them; read-only.

    Args:
        path: a volume file, or a folder with the DICOM files of one series.

    Raises:
        DataError: naming the file that can't be read, or a folder that doesn't hold exactly one series.
    """
    key = _key(path)

    def read() -> np.ndarray:
        series = read_series(Path(path))
        _GRIDS[key] = replace(series, voxels=np.broadcast_to(np.float32(0), series.voxels.shape), sources=())
        return series.slices()[:, 0]

    return _kept(key, read)


def mask_slices(path: str | Path, image: str | Path) -> np.ndarray:
    """Slices of a mask (N, Y, X), float32, in the order of those of its image; read-only.

    Args:
        path: a volume file, or a DICOM segmentation with one segment. Its axes may run in another order or direction
            than those of the image, as long as both have the same voxels.
        image: path of its image, see `image_slices`.

    Raises:
        DataError: for a file that can't be read, with NaN or infinity in it, or on another grid than its image.
    """

    of = _key(image)
    if of not in _GRIDS:
        image_slices(image)

    def read() -> np.ndarray:
        grid = _GRIDS[of]
        if suffix_of(path, VOLUME_SUFFIXES) is None:
            voxels = read_dicom_seg(Path(path), grid)
        else:
            volume = read_volume(path)
            voxels = _on_grid(np.asarray(volume[0]), np.asarray(volume.affine), grid, Path(path))
        if not np.isfinite(voxels).all():
            raise DataError("has values that are NaN or infinite, neither inside nor outside; write it again", path)
        return replace(grid, voxels=voxels).slices()[:, 0]

    return _kept((*_key(path), *of), read)


def _kept(key: tuple[object, ...], read: Callable[[], np.ndarray]) -> np.ndarray:
    with _LOCK:
        slices = _KEPT.get(key, 0, lambda _: read())
    slices.flags.writeable = False
    return slices


def _key(path: str | Path) -> tuple[str, str]:
    return str(path), str(stamps_of(path))


def read_series(path: Path) -> SeriesImage:
    """Voxels and geometry of one series.

    Args:
        path: see `image_slices`.

    Raises:
        DataError: see `image_slices`.
    """
    if not path.is_dir():
        return read_volume_series(path)
    series, problems = find_series(path)
    errors = [problem for problem in problems if problem.severity == "error"]
    if errors:
        raise DataError(errors[0].message, errors[0].path, errors[0].code)
    if len(series) != 1:
        raise DataError(f"holds {len(series)} series; give each series a folder of its own", path)
    return series[0].read()


def _on_grid(voxels: np.ndarray, affine: np.ndarray, image: SeriesImage, path: Path) -> np.ndarray:
    turn = nib.orientations.ornt_transform(*map(nib.orientations.io_orientation, (affine, image.affine)))
    turned = nib.orientations.apply_orientation(voxels, turn)
    affine = affine @ nib.orientations.inv_ornt_aff(turn, voxels.shape)
    if turned.shape != image.voxels.shape:
        raise DataError(
            f"has {' x '.join(map(str, turned.shape))} voxels along the axes of its image, which has "
            f"{' x '.join(map(str, image.voxels.shape))}; draw it on this image, or resample it",
            path,
            "geometry",
        )
    corners = np.array(np.meshgrid(*([0, length - 1] for length in turned.shape))).reshape(3, -1).T
    apart = np.linalg.norm(apply_affine(affine, corners) - apply_affine(image.affine, corners), axis=1).max()
    if apart > _MOST_APART * min(image.spacing):
        raise DataError(
            f"lies up to {apart:.2f} mm away from its image; draw it on this image, or resample it", path, "geometry"
        )
    return turned
