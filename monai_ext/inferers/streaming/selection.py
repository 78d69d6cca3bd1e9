"""The blocks of a volume to predict, and their voxels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from monai_ext.data.volumes_zarr import storage_unit, stored_chunks
from monai_ext.errors import ConfigError, DataError
from monai_ext.inferers.streaming.geometry import BlockGrid, Region, WindowAxis
from monai_ext.inferers.streaming.reading import InputVolume

Box = Sequence[Sequence[int]]


class Selection:
    """Blocks within the bounding box, with voxels in the mask, whose windows read anything but 0.

    Args:
        grid: the blocks.
        axes: the windows along Z, Y, X.
        volume: the input.
        mask: a volume of the same shape; where it is 0 the output is 0.
        bbox: ((z0, z1), (y0, y1), (x0, x1)), first voxels and those after the last; elsewhere the output is 0.

    Raises:
        ConfigError: for a bounding box outside of the volume.
        DataError: for a mask of another shape.
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
        self._masked = None if mask is None else _StoredVoxels(mask)

    def reach(self, index: int) -> Region:
        """Extent of a block's windows; may reach beyond the volume."""
        z, y, x = (
            axis.reach(part.start, part.stop) for axis, part in zip(self._axes, self._grid.region(index), strict=True)
        )
        return z, y, x

    def candidates(self) -> np.ndarray:
        """Numbers of the blocks that may have an output, judged by the lists of stored chunks."""
        return np.array([index for index in range(len(self._grid)) if self._may_be(index)], dtype=np.int64)

    def kept(self, index: int) -> np.ndarray | None:
        """Mask (Z, Y, X) of the voxels of a block that have an output; None for all."""
        region = self._grid.region(index)
        if self._bbox is None and self._mask is None:
            return None
        kept = np.ones([part.stop - part.start for part in region], bool)
        if self._mask is not None:
            kept &= self._mask.read(region) != 0
        if self._bbox is not None:
            inside = tuple(
                slice(max(box.start - part.start, 0), max(box.stop - part.start, 0))
                for box, part in zip(self._bbox, region, strict=True)
            )
            outside = np.ones_like(kept)
            outside[inside] = False
            kept &= ~outside
        return kept

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

    def any(self, region: Region) -> bool:
        chunks = (
            slice(max(part.start, 0) // edge, -(-part.stop // edge))
            for part, edge in zip(region, self._unit, strict=True)
        )
        return bool(self._chunks[tuple(chunks)].any())


def _checked(bbox: Box, shape: Sequence[int]) -> Region:
    try:
        z, y, x = (slice(int(start), int(stop)) for start, stop in bbox)
    except (TypeError, ValueError):
        raise ConfigError(f"bbox must be ((z0, z1), (y0, y1), (x0, x1)), got {bbox!r}") from None
    for name, part, size in zip("zyx", (z, y, x), shape, strict=True):
        if not 0 <= part.start < part.stop <= size:
            raise ConfigError(f"bbox: {name} must lie within 0 and {size}, first voxel before last, got {bbox!r}")
    return z, y, x
