"""Positions of windows and blocks in a volume: MONAI's grid of windows, cut into blocks that own whole chunks."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from monai.data.utils import dense_patch_slices
from monai.utils import ensure_tuple_rep

from monai_ext.errors import ConfigError

Size = tuple[int, int, int]
Region = tuple[slice, slice, slice]

# Window strides along an edge of a default block's tile.
_STRIDES = 8


@dataclass(frozen=True)
class WindowAxis:
    """Windows along one axis, as MONAI's sliding window places them.

    Attributes:
        starts: first voxels, ascending. Where the volume is shorter than a window, the only one begins before it.
        length: voxels of a window.
    """

    starts: tuple[int, ...]
    length: int

    @classmethod
    def of(cls, size: int, length: int, overlap: float) -> WindowAxis:
        """Windows over ``size`` voxels; neighbours share the fraction ``overlap`` of their length."""
        padded = max(size, length)
        interval = length if length == padded else max(1, int(length * (1 - overlap)))
        before = (padded - size) // 2
        places = dense_patch_slices((padded,), (length,), (interval,))
        return cls(tuple(int(place.start) - before for (place,) in places), length)

    def touching(self, start: int, stop: int) -> range:
        """Indices of the windows that hold one of the voxels from ``start`` to ``stop``."""
        return range(bisect_right(self.starts, start - self.length), bisect_left(self.starts, stop))

    def reach(self, start: int, stop: int) -> slice:
        """All voxels that these windows read; may begin below 0 and end beyond the volume."""
        windows = self.touching(start, stop)
        return slice(self.starts[windows[0]], self.starts[windows[-1]] + self.length)


class BlockGrid:
    """Blocks of a volume, numbered one tile column after another, from the first to the last along Z.

    Args:
        shape: voxels of the volume along Z, Y, X.
        block_size: voxels of a block; those at the end of the volume may be smaller.
    """

    def __init__(self, shape: Sequence[int], block_size: Sequence[int]) -> None:
        self.shape, self.block_size = _size(shape), _size(block_size)
        self.counts = _size(-(-size // edge) for size, edge in zip(self.shape, self.block_size, strict=True))

    def __len__(self) -> int:
        return math.prod(self.counts)

    def place(self, index: int) -> Size:
        """Position of a block in the grid, (z, y, x)."""
        column, z = divmod(index, self.counts[0])
        return z, *divmod(column, self.counts[2])

    def region(self, index: int) -> Region:
        """Voxels of a block."""
        z, y, x = (
            slice(place * edge, min((place + 1) * edge, size))
            for place, edge, size in zip(self.place(index), self.block_size, self.shape, strict=True)
        )
        return z, y, x

    def tile_column(self, index: int) -> int:
        """Number of the block's tile column, the blocks of one position in Y and X, numbered in a row."""
        return index // self.counts[0]

    def above_and_below(self, index: int, planes: slice) -> range:
        """Numbers of the blocks of the same tile column that hold one of these planes, which may lie outside."""
        first = self.tile_column(index) * self.counts[0]
        start, stop = max(planes.start, 0), min(planes.stop, self.shape[0])
        return range(first + start // self.block_size[0], first - (-stop // self.block_size[0]))


@dataclass(frozen=True)
class VoxelSpace:
    """Position and size of a volume's voxels along Z, Y, X.

    Attributes:
        scale: size of a voxel.
        translation: centre of the first voxel.
        units: of both, such as "micrometer"; None where they aren't known.
    """

    scale: tuple[float, ...] = (1.0, 1.0, 1.0)
    translation: tuple[float, ...] = (0.0, 0.0, 0.0)
    units: tuple[str | None, ...] = (None, None, None)

    def level(self, level: int) -> VoxelSpace:
        """The space of a level with voxels 2 ** level as large, the first corner staying where it is."""
        factor = 2**level
        return VoxelSpace(
            tuple(size * factor for size in self.scale),
            tuple(first + (factor - 1) / 2 * size for first, size in zip(self.translation, self.scale, strict=True)),
            self.units,
        )


def window_axes(shape: Sequence[int], roi_size: Sequence[int], overlap: Sequence[float]) -> tuple[WindowAxis, ...]:
    """The windows of a volume along Z, Y and X."""
    return tuple(map(WindowAxis.of, shape, roi_size, overlap))


def default_block_size(
    shape: Sequence[int], roi_size: Sequence[int], overlap: Sequence[float], unit: Sequence[int]
) -> Size:
    """A block of one unit along Z, and of about eight window strides along Y and X, the same for all columns.

    Args:
        shape: voxels of the volume along Z, Y, X.
        roi_size: voxels of a window along Z, Y, X.
        overlap: fraction of a window that its neighbour covers along Z, Y, X, in [0, 1).
        unit: voxels of the output's storage unit (chunk or shard) along Z, Y, X.
    """
    edges = [unit[0]]
    for size, roi, fraction, whole in list(zip(shape, roi_size, overlap, unit, strict=True))[1:]:
        largest = max(1, _STRIDES * max(1, int(roi * (1 - fraction))) // whole) * whole
        columns = -(-size // largest)
        edges.append(-(-size // (columns * whole)) * whole)
    return _size(edges)


def check_block_size(block_size: Sequence[int], unit: Sequence[int]) -> None:
    """Raise `ConfigError` for blocks that share chunks: two processes could then write the same one."""
    if any(edge < 1 or edge % whole for edge, whole in zip(block_size, unit, strict=True)):
        raise ConfigError(
            f"block_size must be a multiple of the output's chunks (or shards), {list(unit)}, got {list(block_size)}"
        )


def voxel_counts(name: str, value: Sequence[int] | int) -> Size:
    """One count for all three axes, or one for each; raises `ConfigError` for anything else."""
    try:
        z, y, x = ensure_tuple_rep(value, 3)
        if min(z, y, x) < 1:
            raise ValueError
    except (TypeError, ValueError):
        raise ConfigError(f"{name} must be one or three counts of voxels (Z, Y, X), got {value}") from None
    return int(z), int(y), int(x)


def chunks_of(region: Sequence[slice], unit: Sequence[int]) -> list[Size]:
    """Grid coordinates of the chunks of ``unit`` voxels that a region touches."""
    axes = (range(part.start // edge, -(-part.stop // edge)) for part, edge in zip(region, unit, strict=True))
    return [_size(place) for place in product(*axes)]


def within(part: slice, whole: slice) -> slice:
    """A part of ``whole`` counted from its beginning."""
    return slice(part.start - whole.start, part.stop - whole.start)


def common(first: slice, second: slice) -> slice:
    """What two slices share; empty, at the beginning of the second, where that is nothing."""
    start, stop = max(first.start, second.start), min(first.stop, second.stop)
    return slice(start, stop) if start < stop else slice(second.start, second.start)


def _size(values: object) -> Size:
    z, y, x = map(int, values)  # type: ignore[call-overload]
    return z, y, x
