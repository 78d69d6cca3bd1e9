"""Z, Y, X of an array that has other axes as well, or these in another order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr

from monai_ext.data.ome_image import AXES
from monai_ext.errors import DataError


@dataclass(frozen=True)
class VolumeView:
    """A stored array as (Z, Y, X), or (C, Z, Y, X); read like a Zarr array, by slices.

    Attributes:
        array: the array itself.
        axes: its axis for each of the view's.
        fixed: its other axes, and the index on each.
    """

    array: zarr.Array
    axes: tuple[int, ...]
    fixed: tuple[tuple[int, int], ...] = ()

    def __getitem__(self, region: Any) -> np.ndarray:
        wanted = region if isinstance(region, tuple) else (region,)
        if Ellipsis in wanted:
            place = wanted.index(Ellipsis)
            missing = (slice(None),) * (self.ndim - len(wanted) + 1)
            wanted = (*wanted[:place], *missing, *wanted[place + 1 :])
        index: list[slice | int] = [slice(None)] * self.array.ndim
        for axis, part in zip(self.axes, wanted, strict=False):
            index[axis] = part
        for axis, number in self.fixed:
            index[axis] = slice(number, number + 1)
        values = np.asarray(self.array[tuple(index)])
        values = values.transpose(*self.axes, *(axis for axis, _ in self.fixed))
        return values.reshape(values.shape[: self.ndim])

    @property
    def shape(self) -> tuple[int, ...]:
        return self._of(self.array.shape)

    @property
    def chunks(self) -> tuple[int, ...]:
        return self._of(self.array.chunks)

    @property
    def shards(self) -> tuple[int, ...] | None:
        return None if self.array.shards is None else self._of(self.array.shards)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype

    @property
    def ndim(self) -> int:
        return len(self.axes)

    @property
    def path(self) -> str:
        return self.array.path

    @property
    def store(self) -> Any:
        return self.array.store

    def _of(self, values: Sequence[int]) -> tuple[int, ...]:
        return tuple(values[axis] for axis in self.axes)


Volume = zarr.Array | VolumeView


def view_of(
    array: zarr.Array, names: Sequence[str], channel: int | None, timepoint: int | None, channels: bool, where: str
) -> Volume:
    """The volume in an array, by the names of its axes; the array itself where it is no more than that.

    Args:
        array: the stored array.
        names: of its axes, letters of `AXES`; empty where they aren't named.
        channel: index of the channel to take, where there are several.
        timepoint: index of the timepoint to take, where there are several.
        channels: keep the channel axis, in front of Z.
        where: path or URL, for messages.

    Raises:
        DataError: naming ``where``, for axes that make no volume, or without a choice where there are several channels
            or timepoints.
    """
    ndim = array.ndim
    if not names:
        if ndim == 4 and channels:  # (Z, Y, X, C) or (C, Z, Y, X): the input's shape says which
            return array
        names = "zyxc" if ndim == 4 and array.shape[3] == 1 != array.shape[0] else AXES[-ndim:]
    check_axes(names, array.shape, where)
    keep = ["c"] if channels and "c" in names else []
    axes = tuple(names.index(name) for name in [*keep, *"zyx"])
    fixed = []
    for name, word, chosen in (("t", "timepoint", timepoint), ("c", "channel", channel)):
        if name in keep:
            continue
        if name not in names:
            if chosen and not (name == "c" and channels):
                raise DataError(f"has no {word} {chosen}: its shape {array.shape} is that of a single one", where)
            continue
        count = array.shape[names.index(name)]
        if chosen is None and count != 1:
            raise DataError(
                f"has {count} {word}s (shape {array.shape}, axes {', '.join(names)}); choose one by --{word} 0 to "
                f"{count - 1}, or write `#{word}=0` behind its path",
                where,
            )
        if not 0 <= (chosen or 0) < count:
            raise DataError(f"has the {word}s 0 to {count - 1}; there is no {word} {chosen}", where)
        fixed.append((names.index(name), chosen or 0))
    plain = axes == tuple(range(ndim))
    return array if plain else VolumeView(array, axes, tuple(fixed))


def check_axes(names: Sequence[str], shape: Sequence[int], where: str) -> None:
    """Refuse axes that aren't those of a volume.

    Raises:
        DataError: naming ``where``, without Z, Y and X, or with others than these, t and c.
    """
    if len(names) != len(shape) or len(set(names)) != len(names) or not set("zyx") <= set(names) <= set(AXES):
        raise DataError(
            f"must have three axes (Z, Y, X), got the shape {tuple(shape)}, axes {', '.join(names)}; beside z, y and x "
            "there may be t and c",
            where,
        )
