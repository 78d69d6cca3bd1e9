"""Loading volumes as channel-first images, with errors that name the file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data import ImageReader, MetaTensor
from monai.transforms import LoadImage, LoadImaged, MapTransform
from monai.utils import MetaKeys, ensure_tuple

from monai_ext.data.volumes import read_channels, volume_suffix


class VolumeReader(ImageReader):
    """Reads 3-D volume files, see `monai_ext.data.volumes.read_volume`; several are the channels of one image."""

    def verify_suffix(self, filename: Sequence[str | Path] | str | Path) -> bool:
        """Whether all files have a suffix of a volume.

        Args:
            filename: path or paths.
        """
        return all(volume_suffix(name) is not None for name in ensure_tuple(filename))

    def read(self, data: Sequence[str | Path] | str | Path, **kwargs: Any) -> MetaTensor:
        """Image (C, X, Y, Z), see `monai_ext.data.volumes.read_channels`.

        Args:
            data: path or paths.
            kwargs: not used.

        Raises:
            DataError: see `monai_ext.data.volumes.read_channels`.
        """
        return read_channels(list(ensure_tuple(data)))

    def get_data(self, img: MetaTensor) -> tuple[np.ndarray, dict[str, Any]]:
        """Values and metadata of what `read` gave.

        Args:
            img: the image.
        """
        return img.numpy(), {**img.meta, MetaKeys.AFFINE: img.affine.numpy(), MetaKeys.ORIGINAL_CHANNEL_DIM: 0}


class _LoadStrict(LoadImage):
    """MONAI's ``LoadImage`` without its own readers: it would try them all, and list what each thought of the file."""

    def __init__(self, reader: ImageReader, dtype: Any) -> None:
        self.auto_select = True
        self.ensure_channel_first = self.simple_keys = self.expanduser = False
        self.dtype, self.pattern, self.sep = dtype, None, "."
        self.readers = [reader]

    @property
    def image_only(self) -> bool:
        """True, whatever a program sets: the metadata are the image's own, and a copy beside it would outlive it."""
        return True

    @image_only.setter
    def image_only(self, value: bool) -> None:
        pass

    def __call__(self, filename: Any, reader: ImageReader | None = None) -> Any:
        if isinstance(filename, MetaTensor):
            return filename  # MONAI Deploy leaves out loaders by their class's name only
        # A reader that is given is asked directly, so that its errors come through.
        return super().__call__(filename, reader or self.readers[-1])


class LoadStrictd(LoadImaged):
    """MONAI's ``LoadImaged`` with one reader, whose errors reach the user.

    Programs that feed images from memory know it as a loader and leave it out; where they don't, a ``MetaTensor`` in
    place of a path stays as it is.

    Args:
        keys: keys of the paths.
        reader: reads them.
        dtype: of the images' values; None for the reader's own.
        allow_missing_keys: whether items may lack a key.
    """

    def __init__(
        self, keys: KeysCollection, reader: ImageReader, dtype: Any = np.float32, allow_missing_keys: bool = False
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self._loader = _LoadStrict(reader, dtype)
        self.meta_keys = (None,) * len(self.keys)
        self.meta_key_postfix = ("meta_dict",) * len(self.keys)
        self.overwriting = True


class LoadVolumed(LoadStrictd):
    """MONAI's ``LoadImaged`` and ``EnsureChannelFirstd`` for 3-D volume files (see `VolumeReader`), made strict.

    The path under each key (or a list of paths: one channel each, on one grid) becomes a float32 ``MetaTensor``
    (C, X, Y, Z) in the file's own axis order.

    Args:
        keys: keys of the paths.
        allow_missing_keys: whether items may lack a key.

    Raises:
        DataError: naming the file that is damaged, not 3-D, or lies on another grid than its first channel.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, VolumeReader(), allow_missing_keys=allow_missing_keys)
