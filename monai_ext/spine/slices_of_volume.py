"""A volume as a stack of slices for a 2-D network, and back; a series of any kind as an image."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import ImageReader, MetaTensor
from monai.transforms import InvertibleTransform, MapTransform
from monai.utils import MetaKeys, SpaceKeys, ensure_tuple

from monai_ext.spine.folders import is_slice
from monai_ext.spine.image import SeriesImage, slice_axis_of
from monai_ext.spine.slices import read_slice_series
from monai_ext.spine.volume_slices import read_series
from monai_ext.transforms.load import LoadStrictd


class SeriesReader(ImageReader):
    """Reads what the cascade reads: a volume file, a folder with one DICOM series, PNG, JPEG or TIFF slices."""

    def verify_suffix(self, filename: Sequence[str | Path] | str | Path) -> bool:
        """Always true: DICOM files have any name.

        Args:
            filename: path or paths.
        """
        return True

    def read(self, data: Sequence[str | Path] | str | Path, **kwargs: Any) -> SeriesImage:
        """The series.

        Args:
            data: path of a volume or a folder, or paths of slices.
            kwargs: not used.

        Raises:
            DataError: naming the file that can't be read.
        """
        files = [Path(name) for name in ensure_tuple(data)]
        return read_slice_series(files) if is_slice(files[0]) else read_series(files[0])

    def get_data(self, img: SeriesImage) -> tuple[np.ndarray, dict[str, Any]]:
        """Voxels (1, I, J, K) and metadata of what `read` gave.

        Args:
            img: the series.
        """
        return img.voxels[None], {
            MetaKeys.AFFINE: img.affine,
            MetaKeys.ORIGINAL_AFFINE: img.affine,
            MetaKeys.SPATIAL_SHAPE: np.array(img.voxels.shape),
            MetaKeys.SPACE: SpaceKeys.RAS,
            MetaKeys.ORIGINAL_CHANNEL_DIM: 0,
        }


class LoadSeriesd(LoadStrictd):
    """MONAI's ``LoadImaged`` for series, see `SeriesReader`: a ``MetaTensor`` (1, I, J, K), axes as in the file.

    Args:
        keys: keys of the paths.
        allow_missing_keys: whether items may lack a key.

    Raises:
        DataError: naming the file that can't be read.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, SeriesReader(), allow_missing_keys=allow_missing_keys)


class VolumeToSlicesd(MapTransform, InvertibleTransform):
    """Make the slices of a volume the channels of a 2-D image, in the order and orientation of `SeriesImage.slices`.

    So 2-D transforms that treat channels one by one prepare all slices as the cascade does. The inverse makes a volume
    of as many channels, in the axes and with the affine of the first.

    Args:
        keys: of volumes (1, I, J, K), which become (slices, Y, X).
        allow_missing_keys: whether items may lack a key.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            volume = MetaTensor(result[key])
            affine = volume.affine.double().numpy()
            series = SeriesImage(volume[0].numpy(), affine, slice_axis_of(affine, volume.shape[1:]))
            slices = MetaTensor(torch.from_numpy(series.slices()[:, 0]), applied_operations=volume.applied_operations)
            slices.meta |= {name: value for name, value in volume.meta.items() if name != MetaKeys.AFFINE}
            grid = {"affine": affine, "slice_axis": series.slice_axis, "shape": series.voxels.shape}
            self.push_transform(slices, extra_info=grid)
            result[key] = slices
        return result

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Volumes (1, I, J, K) of slices (slices, Y, X).

        Args:
            data: with what `__call__` gave, or something of the same number and size of slices.
        """
        result = dict(data)
        for key in self.key_iterator(result):
            slices = result[key]
            grid = self.pop_transform(slices)["extra_info"]
            empty = np.broadcast_to(np.float32(0), grid["shape"])
            series = SeriesImage(empty, grid["affine"], grid["slice_axis"])
            volume = MetaTensor(torch.from_numpy(series.restore(slices.numpy()))[None], meta=dict(slices.meta))
            volume.applied_operations = slices.applied_operations
            volume.affine = torch.from_numpy(grid["affine"])
            result[key] = volume
        return result
