"""Chest CTs and slices of them as input of a network, from volumes or from extracted slices."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import ImageReader, MetaTensor
from monai.transforms import MapTransform
from monai.utils import MetaKeys, SpaceKeys, ensure_tuple

from monai_ext.ct_rate.chest_ct import chest_ct, stated_rescale
from monai_ext.ct_rate.items import bag_of
from monai_ext.ct_rate.slice_files import read_extracted_slices
from monai_ext.ct_rate.slice_images import check_clahe, slice_images
from monai_ext.data.geometry import nifti_geometry
from monai_ext.data.prepared_inputs import image_files
from monai_ext.data.volumes import read_nifti
from monai_ext.errors import ConfigError
from monai_ext.transforms.load import LoadStrictd

PREPARATION = 2  # a new one makes cached volumes be prepared anew
EXTRACTED = "extracted"  # in the metadata of slices that `monai_ext.ct_rate.extract_slices` wrote
_NOTE, _MEMORY = "geometry_note", "image in memory"


class ChestReader(ImageReader):
    """Reads a chest CT as it is stored, or extracted slices."""

    def verify_suffix(self, filename: Any) -> bool:
        """Whether this is a NIfTI file or (nested lists of) ``.npy``.

        Args:
            filename: path or paths.
        """
        return all(file.endswith((".npy", ".nii", ".nii.gz")) for file in image_files(list(ensure_tuple(filename))))

    def read(self, data: Any, **kwargs: Any) -> tuple[np.ndarray, dict[str, Any]]:
        """Values and metadata.

        Args:
            data: path of a volume, or (nested lists of) paths of slices.
            kwargs: not used.

        Raises:
            DataError: naming the file that can't be read.
        """
        named = list(ensure_tuple(data))
        if len(named) > 1 or isinstance(named[0], list) or str(named[0]).endswith(".npy"):
            return read_extracted_slices(named), {EXTRACTED: True, MetaKeys.ORIGINAL_CHANNEL_DIM: 0}
        header, voxels = read_nifti(named[0])
        affine, note = nifti_geometry(header, named[0])
        # The axes in the order of memory, which spares a copy.
        stored = np.require(voxels.T, voxels.dtype.newbyteorder("="), "W")[None]
        meta: dict[str, Any] = {name: float(header[name]) for name in ("scl_slope", "scl_inter")}
        meta |= {MetaKeys.SPACE: SpaceKeys.RAS, MetaKeys.ORIGINAL_CHANNEL_DIM: 0, _NOTE: note}
        return stored, {**meta, MetaKeys.AFFINE: affine[:, [2, 1, 0, 3]]}

    def get_data(self, img: tuple[np.ndarray, dict[str, Any]]) -> tuple[np.ndarray, dict[str, Any]]:
        """What `read` gave.

        Args:
            img: values and metadata.
        """
        return img


class LoadChestd(LoadStrictd):
    """MONAI's ``LoadImaged`` for chest CTs: a ``MetaTensor`` (1, Z, Y, X) of the stored values, for `LoadChestCTd`.

    Z, Y, X are the file's third, second and first axis. Extracted slices (``.npy``) are stacked as they are listed.

    Args:
        keys: of the path, or of the (nested) list of paths.
        allow_missing_keys: leave out keys that an item lacks, instead of an error.

    Raises:
        DataError: naming the file that can't be read.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, ChestReader(), dtype=None, allow_missing_keys=allow_missing_keys)


class LoadChestCTd(MapTransform):
    """Make a network's input of a chest CT: the volume for a 3-D network, slices of it for a 2-D network.

    Of a path, or an image in memory (1, I, J, K) with its affine (a ``MetaTensor``, see `LoadChestd`): its Hounsfield
    units are found by voxels, header and metadata table (``rescale`` of the item), see
    `monai_ext.ct_rate.hounsfield.choose_reading`, and the item's ``reading`` says how; the axes follow from the affine:
    Z to the patient's head, Y to the back, X to the left. -1000…400 HU become 0…1, the same for all slices. The result
    is float32:

    - (1, Z, Y, X) without ``num_slices``, a ``MetaTensor`` with the affine of its own spacing, for ``Spacingd``,
    - (num_slices, C, size, size) with it, a plain tensor: exactly the pixels that
      `monai_ext.ct_rate.extract_slices` writes. Of a chest with fewer slices some occur twice.

    Extracted slices (`LoadChestd`) stay as they were extracted; the arguments below don't change them.

    Args:
        keys: of the path, of the (nested) list of paths, or of the image.
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
            if not isinstance(result[key], torch.Tensor):
                result = LoadChestd(key)(result)
            image = MetaTensor(result[key])
            if image.meta.get(EXTRACTED):
                result[key] = image.as_tensor()
            else:
                result[key], result["reading"] = self._prepared(image, result)
        return result

    def _prepared(self, image: MetaTensor, item: Mapping[Hashable, Any]) -> tuple[torch.Tensor, str]:
        path, note = (image.meta.get(name, default) for name, default in (("filename_or_obj", _MEMORY), (_NOTE, "")))
        affine, stated = image.affine.numpy(), stated_rescale(image.meta)
        ct = chest_ct(image[0].numpy(), affine, stated, item.get("rescale"), item.get("spacing"), note, path)
        if self.num_slices is None:
            meta = {"filename_or_obj": path}
            volume = MetaTensor(torch.from_numpy(ct.windowed())[None], affine=torch.from_numpy(ct.affine), meta=meta)
            return volume, str(ct.reading)
        _, images, doubt = slice_images(ct, self.num_slices, self.size, self.clahe)
        chosen = bag_of(range(len(images)), self.num_slices, self.neighbours)
        return torch.from_numpy(images[np.array(chosen)]), f"{ct.reading}; {doubt}" if doubt else str(ct.reading)
