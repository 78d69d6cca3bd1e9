"""A whole image, of which a classifier of crops gets the centre."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import ImageReader
from monai.utils import MetaKeys, SpaceKeys, ensure_tuple

from monai_ext.data.geometry import nifti_geometry
from monai_ext.data.tiff_slices import native
from monai_ext.data.tiff_stack import TiffStack
from monai_ext.data.volumes import read_nifti


class StackReader(ImageReader):
    """Reads a folder of TIFF slices, or a NIfTI file, as it is stored."""

    def verify_suffix(self, filename: Sequence[str | Path] | str | Path) -> bool:
        """Whether this is a folder or a NIfTI file.

        Args:
            filename: path or paths.
        """
        return all(Path(name).is_dir() or str(name).endswith((".nii", ".nii.gz")) for name in ensure_tuple(filename))

    def read(self, data: Sequence[str | Path] | str | Path, **kwargs: Any) -> tuple[np.ndarray, dict[str, Any]]:
        """Voxels (1, Z, Y, X) in the files' own type, and metadata; Z, Y, X are a NIfTI file's third to first axis.

        Args:
            data: path.
            kwargs: not used.

        Raises:
            DataError: naming the file that can't be read.
        """
        (path,) = ensure_tuple(data)
        affine = np.eye(4)
        if Path(path).is_dir():
            stack = TiffStack.scan(path)
            voxels = stack.read((0, 0, 0), stack.shape)
        else:
            header, stored = read_nifti(path)
            voxels = stored.T.astype(native(stored.dtype.str))
            affine = nifti_geometry(header, path)[0][:, [2, 1, 0, 3]]
        meta = {MetaKeys.AFFINE: affine, MetaKeys.SPACE: SpaceKeys.RAS, MetaKeys.ORIGINAL_CHANNEL_DIM: 0}
        return voxels[None], meta

    def get_data(self, img: tuple[np.ndarray, dict[str, Any]]) -> tuple[np.ndarray, dict[str, Any]]:
        """What `read` gave.

        Args:
            img: voxels and metadata.
        """
        return img
