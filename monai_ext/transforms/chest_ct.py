"""Chest CTs and slices of them as a network gets them, whether they come from volumes or from extracted slices."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from monai_ext.data.ct_rate.chest_ct import read_chest_ct
from monai_ext.data.ct_rate.items import bag_of
from monai_ext.data.ct_rate.slice_files import read_slices
from monai_ext.data.ct_rate.slice_images import slice_images


class LoadChestCTd(MapTransform):
    """Read a chest CT: the whole of it for a 3-D network, or its slices for one that looks at slices.

    Hounsfield units follow from header and metadata table (``rescale`` of the item; an error where these contradict
    each other), the axes from the affine: Z to the patient's head, Y to the back, X to the left. -1000…400 HU become
    0…1, nothing is stretched slice by slice.

    Args:
        keys: of the path (``.nii.gz``).
        num_slices: None for the whole volume, a float32 ``MetaTensor`` (1, Z, Y, X) in its own spacing (which MONAI's
            ``Spacingd`` knows); else that many slices of the chest, float32 (num_slices, C, size, size), the very
            pixels that `monai_ext.data.ct_rate.extract_slices` writes. A chest with fewer shows some twice.
        size: pixels an edge of a slice.
        clahe: see `monai_ext.data.ct_rate.extract_slices`.
        neighbours: whether a slice has three channels: the one before, itself, the one behind it, of those chosen.

    Raises:
        DataError: naming the file, for all that `monai_ext.data.ct_rate.check` would list.
    """

    def __init__(
        self,
        keys: KeysCollection,
        num_slices: int | None = None,
        size: int = 224,
        clahe: bool = False,
        neighbours: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.num_slices = num_slices
        self.size = size
        self.clahe = clahe
        self.neighbours = neighbours

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            path = result[key]
            ct = read_chest_ct(path, result.get("rescale"), result.get("spacing"))
            if self.num_slices is None:
                meta = {"filename_or_obj": str(path), "spatial_shape": ct.stored.shape}
                image = torch.from_numpy(ct.windowed())[None]
                result[key] = MetaTensor(image, affine=torch.from_numpy(ct.affine), meta=meta)
            else:
                _, images = slice_images(ct, self.num_slices, self.size, self.clahe)
                chosen = bag_of(range(len(images)), self.num_slices, self.neighbours)
                result[key] = torch.from_numpy(images[np.array(chosen)])
        return result


class LoadChestSlicesd(MapTransform):
    """Read extracted slices (``.npy``, float32 (Y, X) from 0 to 1).

    A path becomes (1, Y, X); a list of paths the channels of one slice (C, Y, X); a list of such lists the slices of a
    volume (slice, C, Y, X). All are float32.

    Raises:
        DataError: naming the file that is missing, damaged, of another shape, or not within 0 to 1.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            named = result[key]
            result[key] = torch.from_numpy(read_slices([named] if isinstance(named, str | Path) else named))
        return result
