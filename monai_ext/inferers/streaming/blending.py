"""Weighted sums of overlapping windows for one block of a tile column, moved on along Z."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from monai_ext.inferers.streaming.geometry import Region, Size


class TileColumnBlend:
    """Blends the windows of a tile column, and keeps their overlap with the next block.

    A voxel's sum doesn't depend on where in the column the work began: every window is added to it in the same order,
    and by exactly rounded operations, which give the same bits at any place of any array. A fused multiply-add would
    not: vectorised loops and their remainders round it differently.

    Memory: (block's Z + window's Z) · tile · (channels + 1) · 4 bytes, at most that of the volume.

    Args:
        channels: number of channels of each target.
        weights: importance of a window's voxels (Z, Y, X), float32, on the device of the sums.
        block_size: voxels of a block, which may be larger than the volume.
        shape: voxels of the volume.
    """

    def __init__(self, channels: Mapping[str, int], weights: torch.Tensor, block_size: Size, shape: Size) -> None:
        self.weights = weights
        size = sums_shape(block_size, weights.shape, shape)
        self._sums = {name: weights.new_zeros(count, *size) for name, count in channels.items()}
        self._total = weights.new_zeros(1, *size)
        self._start = (0, 0, 0)
        self._stop = (0, 0, 0)

    def begin(self, region: Region) -> None:
        """Clear the sums, and start with the block ``region``."""
        for array in self._arrays():
            array.zero_()
        self._move_to(region)

    def add(self, logits: Mapping[str, torch.Tensor], starts: Sequence[Size]) -> None:
        """Add windows, in this order.

        Args:
            logits: logits of each target (B, channels, Z, Y, X) float32, B at least the number of ``starts``; changed.
            starts: first voxels (z, y, x) of the windows. Voxels outside of the column, or before the block,
                are left out.
        """
        for number, start in enumerate(starts):
            inside, window = self._overlap(start)
            self._total[inside].add_(self.weights[window[1:]])
            for name, sums in self._sums.items():
                sums[inside].add_(logits[name][number].mul_(self.weights)[window])

    def finish(self, region: Region, following: Region | None) -> dict[str, torch.Tensor]:
        """Blended logits (channels, Z, Y, X) of the block ``region``; then start with the next one.

        Args:
            region: the block since `begin`, or the last ``following``.
            following: the next block of the column; None when it isn't selected, or there is none.
        """
        inside = (slice(None), *(slice(0, part.stop - part.start) for part in region))
        blended = {name: sums[inside] / self._total[inside] for name, sums in self._sums.items()}
        if following is not None:
            self._roll(region[0].stop - region[0].start)
            self._move_to(following)
        return blended

    def _arrays(self) -> list[torch.Tensor]:
        return [*self._sums.values(), self._total]

    def _move_to(self, region: Region) -> None:
        depth = self._total.shape[1]
        self._start = (region[0].start, region[1].start, region[2].start)
        self._stop = (region[0].start + depth, region[1].stop, region[2].stop)

    def _overlap(self, start: Size) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """The position of a window in the sums, and that part of it; both with a leading channel axis."""
        inside, window = [slice(None)], [slice(None)]
        for first, length, low, high in zip(start, self.weights.shape, self._start, self._stop, strict=True):
            begin, end = max(first, low), min(first + length, high)
            inside.append(slice(begin - low, end - low))
            window.append(slice(begin - first, end - first))
        return tuple(inside), tuple(window)

    def _roll(self, planes: int) -> None:
        depth = self._total.shape[1]
        for array in self._arrays():
            # in pieces that don't overlap, so that nothing is copied twice
            for begin in range(planes, depth, planes):
                piece = array[:, begin : begin + planes]
                array[:, begin - planes : begin - planes + piece.shape[1]] = piece
            array[:, depth - planes :] = 0


def sums_shape(block_size: Sequence[int], roi_size: Sequence[int], shape: Sequence[int]) -> list[int]:
    """Voxels (Z, Y, X) of a tile column that are summed at once: a block and a window along Z, within the volume."""
    return [min(pair) for pair in zip((block_size[0] + roi_size[0], *block_size[1:]), shape, strict=True)]
