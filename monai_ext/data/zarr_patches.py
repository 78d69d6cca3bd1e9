"""Patches of Zarr volumes as items for training: read on demand, without the rest of the volume."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from monai.data import Dataset, MetaTensor

from monai_ext.data.volume_view import Volume
from monai_ext.data.volumes_zarr import channel_axis
from monai_ext.data.zarr_fast import open_fast
from monai_ext.errors import ConfigError, DataError

# Keys of a set that are not for the network.
_NOT_READ = ("input", "ref_label")


class ZarrPatchDataset(Dataset):
    """A MONAI dataset of patches ``{"image", <target>..., "case", "start_pos", "volume_idx"}``.

    ``image`` is a float32 `MetaTensor` (1, Z, Y, X), a target one of its stored type (C, Z, Y, X): by it
    `monai_ext.transforms.PrepareTargetsd` decodes normals and converts targets for losses. Only chunks under
    the patch are read, those of the image and its targets at the same time. Stores are opened by the process that
    reads, so that neither a fork nor a pickle carries them over. A chunk that isn't stored holds the array's fill
    value, as everywhere in Zarr: a lost one can't be distinguished from an empty one.

    Args:
        volumes: ``{"input": ..., <target>: ...}`` each, paths or URLs of arrays; ``ref_label`` isn't read.
        patch_size: voxels along Z, Y, X.
        positions: first voxels: ``{"volume_idx": 0, "start_pos": (z, y, x)}`` each, with a ``case`` or without; or bare
            (z, y, x) of a single volume.
        transform: transform of MONAI; `monai_ext.data.SeededDataset` seeds it.

    Raises:
        ConfigError: for positions that name no volume or no voxel.
        DataError: on reading, with volume and position: a damaged chunk, a lost server, a patch beyond the end of its
            volume, NaN or infinite voxels.
    """

    def __init__(
        self,
        volumes: Sequence[Mapping[str, str]],
        patch_size: Sequence[int],
        positions: Sequence[Any],
        transform: Callable[[dict[str, Any]], Any] | None = None,
    ) -> None:
        self.volumes = [dict(volume) for volume in volumes]
        self.patch_size = tuple(int(edge) for edge in patch_size)
        self.positions = [self._record(position) for position in positions]
        super().__init__(self.positions, transform)
        self._handles: _Handles | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handles": None}

    def set_data(self, data: Sequence[Any]) -> None:
        """Replace the positions.

        Args:
            data: new positions, as in the constructor.
        """
        self.positions = self.data = [self._record(position) for position in data]

    def _transform(self, index: int) -> Any:
        return self.transform(self._read(self.positions[index]))

    def _record(self, position: Any) -> dict[str, Any]:
        record = dict(position) if isinstance(position, Mapping) else {"volume_idx": 0, "start_pos": position}
        index, start = int(record.get("volume_idx", 0)), tuple(int(edge) for edge in record["start_pos"])
        if not isinstance(position, Mapping) and len(self.volumes) != 1:
            raise ConfigError(f"ZarrPatchDataset: give volume_idx with {start}: there are {len(self.volumes)} volumes")
        if not 0 <= index < len(self.volumes) or len(start) != 3 or min(start) < 0:
            raise ConfigError(
                f"ZarrPatchDataset: no patch can start at {start} of volume {index}; positions are (z, y, x) from 0, "
                f"volumes count from 0 to {len(self.volumes) - 1}"
            )
        case = record.get("case", f"volume {index} at {' '.join(map(str, start))}")
        return {"case": case, "volume_idx": index, "start_pos": start}

    def _read(self, record: dict[str, Any]) -> dict[str, Any]:
        volume, start = self.volumes[record["volume_idx"]], record["start_pos"]
        if self._handles is None or self._handles.process != os.getpid():
            self._handles = _Handles()
        handles = self._handles
        shape = handles.get(volume["input"], False).shape
        names = {"image": volume["input"], **{key: place for key, place in volume.items() if key not in _NOT_READ}}
        boxes = handles.threads.map(
            lambda name: self._box(handles.get(names[name], name != "image"), names[name], start, shape), names
        )
        tensors = {
            name: MetaTensor(_tensor(box, name == "image"), meta={"filename_or_obj": place})
            for (name, place), box in zip(names.items(), boxes, strict=True)
        }
        return {**tensors, **record}

    def _box(self, array: Volume, place: str, start: tuple[int, ...], shape: tuple[int, ...]) -> np.ndarray:
        """Channel-first values of a patch."""
        where = tuple(slice(first, first + edge) for first, edge in zip(start, self.patch_size, strict=True))
        axis = channel_axis(array.shape, shape)
        try:
            box = np.asarray(array[(slice(None), *where) if axis == 0 else where])
        except Exception as error:  # each codec and store has its own
            raise DataError(
                f"the patch at {start} can't be read ({type(error).__name__}: {error}); is a chunk damaged, or the "
                "server out of reach?",
                place,
            ) from error
        box = box[None] if axis is None else np.moveaxis(box, axis, 0)
        if box.shape[1:] != self.patch_size:
            raise DataError(f"the patch at {start} reaches beyond the volume's end {shape}", place)
        if box.dtype.kind == "f" and not np.isfinite(box).all():
            bad = int((~np.isfinite(box)).sum())
            raise DataError(
                f"the patch at {start} has {bad} of {box.size} values that are NaN or infinite; repair the volume, or "
                "clear the labels there",
                place,
            )
        return box


class _Handles:
    """Open arrays and reading threads of one process."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.threads = ThreadPoolExecutor(4, thread_name_prefix="zarr-patch")
        self._arrays: dict[tuple[str, bool], Volume] = {}

    def get(self, place: str, channels: bool) -> Volume:
        if (place, channels) not in self._arrays:
            self._arrays[place, channels] = open_fast(place, channels=channels)
        return self._arrays[place, channels]


def _tensor(box: np.ndarray, as_floats: bool) -> torch.Tensor:
    dtype = np.dtype(np.float32) if as_floats else box.dtype.newbyteorder("=")
    return torch.from_numpy(np.ascontiguousarray(box, dtype=dtype))
