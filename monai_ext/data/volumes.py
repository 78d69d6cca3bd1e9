"""Reading 3-D volumes with errors that name the file and the fault in plain words."""

from __future__ import annotations

import gzip
import io
import logging
import os
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor, NibabelReader, NumpyReader
from monai.transforms import LoadImage
from monai.utils import optional_import
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from monai_ext.data.walk import stem_of
from monai_ext.errors import DataError

SUFFIXES = (".nii.gz", ".nii", ".npy")

# Where pydicom is installed, MONAI warns at every file it reads, of whatever kind, that a decoder for GPUs isn't.
logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader")


def volume_stem(path: str | Path) -> str | None:
    """File name without ``.nii.gz``, ``.nii`` or ``.npy``, in any case; None when it ends in none of them."""
    return stem_of(path, SUFFIXES)


class GzipNibabelReader(NibabelReader):
    """MONAI's reader, inflating ``.nii.gz`` in one call instead of in small steps, with the checksum verified."""

    def read(self, data: Any, **kwargs: Any) -> Any:
        name = os.fspath(data[0] if isinstance(data, tuple | list) else data)
        self.filenames = (name,)
        if not name.lower().endswith(".gz"):
            return super().read(name, **kwargs)
        content = _inflate(Path(name).read_bytes())
        return _kind(content).from_stream(io.BytesIO(content))


def _kind(content: bytes) -> Any:
    # the first field of the header is its own size: 348 in NIfTI-1, 540 in NIfTI-2, in either byte order
    second = content[:4] in (b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c")
    return nib.Nifti2Image if second else nib.Nifti1Image


def _inflate(content: bytes) -> bytes:
    igzip, faster = optional_import("isal.igzip")
    return igzip.decompress(content) if faster else gzip.decompress(content)


def read_volume(path: str | Path) -> MetaTensor:
    """Read one 3-D volume from NIfTI (``.nii``, ``.nii.gz``) or numpy (``.npy``, nothing pickled; unit affine).

    Returns:
        float32, channel first (1, X, Y, Z) in the file's own axis order, with the affine in mm.

    Raises:
        DataError: with the path and the reason: missing, empty, truncated, not an image, not 3-D.
    """
    path = Path(path)
    if volume_stem(path) is None:
        raise DataError(f"is not a volume this program reads; expected one of {', '.join(SUFFIXES)}", path)
    reader = NumpyReader(allow_pickle=False) if path.suffix.lower() == ".npy" else GzipNibabelReader()
    try:
        if path.stat().st_size == 0:
            raise DataError("is empty (0 bytes); copy or download it again", path)
        volume = LoadImage(image_only=True, ensure_channel_first=True)(str(path), reader=reader)
    except DataError:
        raise
    except Exception as error:
        raise DataError(_reason(error), path) from error
    if volume.ndim != 4 or volume.shape[0] != 1:
        shape = tuple(volume.shape[1:]) + (tuple(volume.shape[:1]) if volume.shape[0] != 1 else ())
        raise DataError(f"expected one 3-D volume, got {len(shape)} dimensions of shape {shape}", path)
    if 0 in volume.shape:
        raise DataError(f"holds no voxels (shape {tuple(volume.shape[1:])})", path)
    return volume


def read_nifti(path: str | Path) -> tuple[Any, np.ndarray]:
    """Read the header and the voxels of one 3-D NIfTI file as they are stored: not scaled, not reordered.

    nibabel's images forget the header's own slope and intercept; here they are ``header["scl_slope"]`` and
    ``header["scl_inter"]``.

    Returns:
        nibabel's header, and the voxels (X, Y, Z) in the file's own type and axis order.

    Raises:
        DataError: with the path and the reason: missing, empty, truncated, not an image, not 3-D, not numbers.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
        if not content:
            raise DataError("is empty (0 bytes); copy or download it again", path)
        if path.name.lower().endswith(".gz"):
            content = _inflate(content)
        stream = io.BytesIO(content)
        header = _kind(content).header_class.from_fileobj(stream)
        voxels = header.raw_data_from_fileobj(stream)
    except DataError:
        raise
    except Exception as error:
        raise DataError(_reason(error), path) from error
    while voxels.ndim > 3 and voxels.shape[-1] == 1:
        voxels = voxels[..., 0]
    if voxels.ndim != 3 or 0 in voxels.shape:
        raise DataError(f"expected one 3-D volume, got {voxels.ndim} dimensions of shape {voxels.shape}", path)
    if voxels.dtype.kind not in "iuf":
        raise DataError(f"holds {voxels.dtype}, expected integers or floats", path)
    return header, voxels


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


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "file not found"
    if isinstance(error, PermissionError):
        return "may not be read (permission denied)"
    if isinstance(error, EOFError):
        return "is truncated (the compressed stream ends early); copy or download it again"
    if isinstance(error, gzip.BadGzipFile) and "Not a gzipped file" in str(error):
        return "is not gzip-compressed although its name says so"
    if isinstance(error, gzip.BadGzipFile | zlib.error) or type(error).__module__.startswith("isal"):
        return f"is damaged ({error}); copy or download it again"
    if isinstance(error, ImageFileError | HeaderDataError):
        return f"is not a NIfTI image ({error})"
    if isinstance(error, ValueError) and "allow_pickle" in str(error):
        return "is not a plain numpy array (it holds pickled objects, which are never loaded)"
    # nibabel: "Expected N bytes, got M bytes from object"
    if isinstance(error, OSError) and "Expected" in str(error):
        return "is truncated (fewer voxels than its header says); copy or download it again"
    return f"can't be read ({type(error).__name__}: {' '.join(str(error).split())})"
