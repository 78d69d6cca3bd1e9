"""The blocks of a volume to predict, and their voxels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from monai_ext.data.volumes_zarr import storage_unit, stored_chunks
from monai_ext.errors import ConfigError, DataError
from monai_ext.inferers.streaming.geometry import BlockGrid, Region, Size, WindowAxis, common, within
from monai_ext.inferers.streaming.reading import InputVolume

Box = Sequence[Sequence[int]]


class Selection:
    """The kept voxels: within the bounding box and the mask, in a window that touches a stored chunk of the input.

    The others have no output, they read as 0; a window that touches no kept voxel isn't computed.

    Args:
        grid: the blocks.
        axes: the windows along Z, Y, X.
        volume: the input.
        mask: a volume of the same shape; where it is 0 the output is 0.
        bbox: ((z0, z1), (y0, y1), (x0, x1)), first voxels and those after the last; elsewhere the output is 0.

    Raises:
        ConfigError: for a bounding box outside of the volume.
        DataError: for a mask of another shape, or an input of which nothing is stored.
    """

    def __init__(
        self,
        grid: BlockGrid,
        axes: Sequence[WindowAxis],
        volume: InputVolume,
        mask: InputVolume | None = None,
        bbox: Box | None = None,
    ) -> None:
        self._grid, self._axes, self._mask = grid, axes, mask
        self._bbox = None if bbox is None else _checked(bbox, grid.shape)
        if mask is not None and mask.shape != grid.shape:
            raise DataError(f"the mask has the shape {mask.shape}, the input {grid.shape}", mask.source)
        self._stored = _StoredVoxels(volume)
        if self._stored.is_empty:
            raise DataError("has no stored chunk: every voxel is 0; copy it again", volume.source)
        self._masked = None if mask is None else _StoredVoxels(mask)
        self._recent: dict[int, np.ndarray | None] = {}
        # those that a window touches, the one it ends in, and the next ones
        self._most_recent = axes[0].length // grid.block_size[0] + 4

    @property
    def is_all(self) -> bool:
        """Whether every voxel is kept, as far as the lists of stored chunks say."""
        return self._bbox is None and self._mask is None and self._stored.is_full

    def region(self, index: int) -> Region:
        """The part of a block within the bounding box; all of it where they share nothing."""
        block = self._grid.region(index)
        z, y, x = map(common, block, self._bbox or block)
        return (z, y, x) if all(part.start < part.stop for part in (z, y, x)) else block

    def reach(self, index: int) -> Region:
        """Extent of a block's windows; may reach beyond the volume."""
        z, y, x = (axis.reach(part.start, part.stop) for axis, part in zip(self._axes, self.region(index), strict=True))
        return z, y, x

    def windows(self, index: int, layer: int) -> list[Size]:
        """First voxels (z, y, x) of the windows to compute of a layer of the block's tile column, in fixed order.

        They touch a kept voxel of any block of the column, so that they are the same wherever in it the work begins.
        """
        z, height = self._axes[0].starts[layer], self._axes[0].length
        in_plane = (
            [axis.starts[number] for number in axis.touching(part.start, part.stop)]
            for axis, part in zip(self._axes[1:], self.region(index)[1:], strict=True)
        )
        starts = [(z, y, x) for y, x in product(*in_plane)]
        if self.is_all:
            return starts
        blocks = self._grid.above_and_below(index, slice(z, z + height))
        return [start for start in starts if any(self._touches(start, block) for block in blocks)]

    def candidates(self) -> np.ndarray:
        """Numbers of the blocks that may have an output, judged by the lists of stored chunks."""
        return np.array([index for index in range(len(self._grid)) if self._may_be(index)], dtype=np.int64)

    def any(self, index: int) -> bool:
        """Whether a voxel of a block is kept."""
        kept = self.kept(index)
        return kept is None or bool(kept.any())

    def kept(self, index: int) -> np.ndarray | None:
        """Mask (Z, Y, X) of the voxels of a block that have an output; None for all."""
        if index not in self._recent:
            if len(self._recent) == self._most_recent:
                del self._recent[next(iter(self._recent))]
            self._recent[index] = self._kept(index)
        return self._recent[index]

    def _kept(self, index: int) -> np.ndarray | None:
        block = self._grid.region(index)
        if not self._may_be(index):
            return np.zeros([part.stop - part.start for part in block], bool)
        near_stored = self._near_stored(index)
        if self._bbox is None and self._mask is None:
            return near_stored
        kept = np.zeros([part.stop - part.start for part in block], bool)
        region = self.region(index)
        inside = tuple(within(part, whole) for part, whole in zip(region, block, strict=True))
        kept[inside] = True if self._mask is None else self._mask.read(region) != 0
        return kept if near_stored is None else kept & near_stored

    def _near_stored(self, index: int) -> np.ndarray | None:
        """Mask of a block's voxels in windows that touch a stored chunk; None for all."""
        region = self._grid.region(index)
        if self._stored.all(self.reach(index)):
            return None
        near = np.zeros([part.stop - part.start for part in region], bool)
        axes = (
            [slice(axis.starts[number], axis.starts[number] + axis.length) for number in axis.touching(p.start, p.stop)]
            for axis, p in zip(self._axes, region, strict=True)
        )
        for z, y, x in product(*axes):
            window = (z, y, x)
            if self._stored.any(window):
                near[tuple(within(common(part, own), own) for part, own in zip(window, region, strict=True))] = True
        return near

    def _touches(self, start: Size, index: int) -> bool:
        block = self._grid.region(index)
        window = (slice(first, first + axis.length) for first, axis in zip(start, self._axes, strict=True))
        kept = self.kept(index)
        part = tuple(within(common(part, whole), whole) for part, whole in zip(window, block, strict=True))
        return kept is None or bool(kept[part].any())

    def _may_be(self, index: int) -> bool:
        region = self._grid.region(index)
        if self._bbox is not None and any(
            part.stop <= box.start or box.stop <= part.start for part, box in zip(region, self._bbox, strict=True)
        ):
            return False
        return (self._masked is None or self._masked.any(region)) and self._stored.any(self.reach(index))


class _StoredVoxels:
    """Map of a volume's stored chunks, one bit each."""

    def __init__(self, volume: InputVolume) -> None:
        self._unit = storage_unit(volume.array)
        self._chunks = np.zeros([-(-size // edge) for size, edge in zip(volume.shape, self._unit, strict=True)], bool)
        self._chunks[tuple(stored_chunks(volume.array).T)] = True
        self.is_full, self.is_empty = bool(self._chunks.all()), not self._chunks.any()

    def any(self, region: Region) -> bool:
        return bool(self._within(region).any())

    def all(self, region: Region) -> bool:
        return bool(self._within(region).all())

    def _within(self, region: Region) -> np.ndarray:
        chunks = (
            slice(max(part.start, 0) // edge, -(-part.stop // edge))
            for part, edge in zip(region, self._unit, strict=True)
        )
        return self._chunks[tuple(chunks)]


def _checked(bbox: Box, shape: Sequence[int]) -> Region:
    try:
        z, y, x = (slice(int(start), int(stop)) for start, stop in bbox)
    except (TypeError, ValueError):
        raise ConfigError(f"bbox must be ((z0, z1), (y0, y1), (x0, x1)), got {bbox!r}") from None
    for name, part, size in zip("zyx", (z, y, x), shape, strict=True):
        if not 0 <= part.start < part.stop <= size:
            raise ConfigError(f"bbox: {name} must lie within 0 and {size}, first voxel before last, got {bbox!r}")
    return z, y, x
