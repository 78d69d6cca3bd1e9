"""Loading volumes as channel-first images, with errors that name the file."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

from monai_ext.data.volumes import read_channels


class LoadVolumed(MapTransform):
    """MONAI's ``LoadImaged`` and ``EnsureChannelFirstd`` for 3-D volume files (see `read_volume`), made strict.

    The path under each key (or a list of paths: one channel each, on one grid) becomes a float32 ``MetaTensor``
    (C, X, Y, Z) in the file's own axis order.

    Args:
        keys: keys of the paths.
        allow_missing_keys: whether items may lack a key.

    Raises:
        DataError: naming the file that is damaged, not 3-D, or lies on another grid than its first channel.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = read_channels(result[key])
        return result
