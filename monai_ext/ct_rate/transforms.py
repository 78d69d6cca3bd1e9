"""Chest CTs and slices of them as input of a network, from volumes or from extracted slices."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from monai_ext.ct_rate.chest_ct import read_chest_ct
from monai_ext.ct_rate.items import bag_of
from monai_ext.ct_rate.slice_files import read_extracted_slices
from monai_ext.ct_rate.slice_images import check_clahe, slice_images
from monai_ext.errors import ConfigError

PREPARATION = 2  # a new one makes cached volumes be prepared anew


class LoadChestCTd(MapTransform):
    """Read a chest CT: the volume for a 3-D network, slices of it for a 2-D network, or extracted slices.

    From a volume (any path but ``.npy``): its Hounsfield units are found by voxels, header and metadata table
    (``rescale`` of the item), see `monai_ext.ct_rate.hounsfield.choose_reading`, and the item's ``reading`` says how;
    the axes follow from the affine: Z to the patient's head, Y to the back, X to the left. -1000…400 HU become 0…1, the
    same for all slices. The result is float32:

    - (1, Z, Y, X) without ``num_slices``, a ``MetaTensor`` with the affine of its own spacing, for ``Spacingd``,
    - (num_slices, C, size, size) with it, a plain tensor: exactly the pixels that
      `monai_ext.ct_rate.extract_slices` writes. Of a chest with fewer slices some occur twice.

    From extracted slices (``.npy``) as `monai_ext.ct_rate.slice_items` lists them: a path becomes (1, Y, X), a
    list of paths the channels of a slice (C, Y, X), a list of such lists the slices of a volume (slice, C, Y, X). They
    are read as they were extracted; the arguments below don't change them.

    Args:
        keys: of the path, or of the (nested) list of paths.
        num_slices: slices per volume, at least 1, see `monai_ext.ct_rate.slice_positions`; None for the whole volume.
        size: edge length of a slice in pixels, at least 1.
        clahe: raise local contrast of the slices, see `monai_ext.ct_rate.extract_slices`.
        neighbours: whether a slice has three channels: of the chosen slices the one before, itself, and the one after.
        allow_missing_keys: leave out keys that an item lacks, instead of an error.

    Raises:
        ConfigError: for ``num_slices`` or ``size`` below 1, or ``clahe`` without scikit-image.
        DataError: naming the file, for all that `monai_ext.ct_rate.check` would list; for a slice that is damaged,
            of another shape than its neighbours, or not within 0 to 1.
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
        if size < 1 or (num_slices is not None and num_slices < 1):
            raise ConfigError(f"LoadChestCTd: size and num_slices must be at least 1, got {size} and {num_slices}")
        check_clahe(clahe)
        self.num_slices = num_slices
        self.size = size
        self.clahe = clahe
        self.neighbours = neighbours
        self.preparation = PREPARATION

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            named = result[key]
            if isinstance(named, str | Path) and not str(named).endswith(".npy"):
                result[key], result["reading"] = self._read_volume(named, result)
            else:
                result[key] = torch.from_numpy(
                    read_extracted_slices([named] if isinstance(named, str | Path) else named)
                )
        return result

    def _read_volume(self, path: str | Path, item: Mapping[Hashable, Any]) -> tuple[torch.Tensor, str]:
        ct = read_chest_ct(path, item.get("rescale"), item.get("spacing"))
        if self.num_slices is None:
            image = torch.from_numpy(ct.windowed())[None]
            meta = {"filename_or_obj": str(path)}
            return MetaTensor(image, affine=torch.from_numpy(ct.affine), meta=meta), str(ct.reading)
        _, images, doubt = slice_images(ct, self.num_slices, self.size, self.clahe)
        chosen = bag_of(range(len(images)), self.num_slices, self.neighbours)
        return torch.from_numpy(images[np.array(chosen)]), f"{ct.reading}; {doubt}" if doubt else str(ct.reading)
