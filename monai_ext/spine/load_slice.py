"""Loading slices as channel-first images, with errors that name the file."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import ensure_tuple

from monai_ext.data.masks import mask_fault, mask_values
from monai_ext.data.problems import warn_once
from monai_ext.errors import DataError
from monai_ext.spine.folders import is_slice
from monai_ext.spine.slices import read_mask, read_slice
from monai_ext.spine.volume_slices import image_slices, mask_slices


def read_item(item: Mapping[Any, Any], key: str, mask: bool = False) -> np.ndarray:
    """Image or mask of an item of a training folder, as intensities or values (Y, X), float32.

    Args:
        item: with the path ``item[key]``; that of a volume also with ``slice``, the slice's number, and for a mask
            with ``image``, the path of its image.
        key: such as "image".
        mask: whether it is a mask.

    Raises:
        DataError: naming the file that can't be read, see `monai_ext.spine.slices` and `volume_slices`.
    """
    path = item[key]
    if is_slice(path):
        return read_mask(path) if mask else read_slice(path)
    slices = mask_slices(path, item["image"]) if mask else image_slices(path)
    return np.array(slices[item["slice"]])


class LoadSliced(MapTransform):
    """Read slices as greyscale images (1, Y, X), float32: PNG, JPEG or TIFF files with rows and columns as on the
    screen, slices of volumes as inference sees them (see `read_item`).

    MONAI's ``LoadImaged`` transposes them, and keeps the three channels of a colour file.

    Args:
        keys: of paths, which are replaced by images with the path as ``filename_or_obj`` in their metadata.
        mask_keys: those of ``keys`` that are masks: 1 where the file is > 0, else 0.
        allow_missing_keys: leave out keys that an item lacks, instead of an error.

    Raises:
        DataError: naming the file that can't be read, a mask in a lossy format, with a palette or transparency, or of
            another shape than the first image of its item.
    """

    def __init__(self, keys: KeysCollection, mask_keys: KeysCollection = (), allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.mask_keys = ensure_tuple(mask_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        # The slice's number has served then; some of MONAI's transforms make tensors of numbers, others don't.
        result = {key: value for key, value in data.items() if key != "slice"}
        first: tuple[int, ...] | None = None
        for key in self.key_iterator(result):
            path = data[key]
            image = read_item(data, str(key), key in self.mask_keys)
            if first is not None and image.shape != first:
                raise DataError(f"has {image.shape} pixels, but the image of its item has {first}", path)
            first = image.shape
            if key in self.mask_keys:
                if fault := mask_fault(mask_values(image)):
                    warn_once(str(path), fault)
                image = (image > 0).astype(image.dtype)
            result[key] = MetaTensor(image[None], meta={"filename_or_obj": str(path)})
        return result
