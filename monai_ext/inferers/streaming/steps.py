"""The work on blocks as a stream of small steps: their windows are read ahead, and predicted in threads."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from monai_ext.allocator import release_freed_memory
from monai_ext.inferers.streaming.chunk_cache import ChunkCache
from monai_ext.inferers.streaming.geometry import BlockGrid, Region, Size, WindowAxis
from monai_ext.inferers.streaming.predictor import WindowPredictor
from monai_ext.inferers.streaming.reading import InputVolume, TileColumnReader
from monai_ext.inferers.streaming.selection import Selection
from monai_ext.inferers.streaming.waits import Waits

_READERS = 2


@dataclass(frozen=True)
class BeginBlock:
    """The sums so far aren't needed: the next windows are those of ``region``, from the first."""

    region: Region


@dataclass(frozen=True)
class Windows:
    """A batch of windows (B, 1, Z, Y, X) float32, and the positions of the first of them; the others are padding."""

    batch: torch.Tensor
    starts: list[Size]


@dataclass(frozen=True)
class EndBlock:
    """All windows of a block have come.

    Attributes:
        kept: the voxels that have an output (Z, Y, X), or None for all.
        following: the block below, whose windows come next; None when it isn't to be computed.
    """

    block: int
    region: Region
    kept: np.ndarray | None
    following: Region | None


@dataclass(frozen=True)
class EmptyBlock:
    """A block without output."""

    block: int
    region: Region


Step = BeginBlock | Windows | EndBlock | EmptyBlock
Logits = dict[str, torch.Tensor]


class Steps:
    """Steps of blocks in ascending order.

    A batch holds windows of one layer (one position along Z) of a tile column, in fixed order: its composition depends
    on the geometry and the kept voxels alone, never on where the work begins, so that a network gives the same bits for
    a window in every process.

    Args:
        volume: the input.
        grid: its blocks.
        axes: its windows along Z, Y, X.
        selection: the blocks with an output.
        batch_size: windows of every batch; the last one of a layer is filled up with zeros.
        pin: give batches in page-locked memory, for faster copies to the GPU.
        nonfinite_voxels: what NaN and infinite voxels that are kept do: "reject" raises `DataError`, "fill" takes them
            as 0, as all that aren't kept.
        cache_bytes: room for decoded chunks that a later tile column needs again.
    """

    def __init__(
        self,
        volume: InputVolume,
        grid: BlockGrid,
        axes: Sequence[WindowAxis],
        selection: Selection,
        batch_size: int,
        pin: bool = False,
        nonfinite_voxels: str = "reject",
        cache_bytes: int = 2**30,
    ) -> None:
        self._volume, self._grid, self._axes, self._selection = volume, grid, axes, selection
        self.batch_size, self._pin = batch_size, pin
        self._cache_bytes = cache_bytes
        self._reject_nonfinite = nonfinite_voxels == "reject"

    def of(self, blocks: Sequence[int]) -> Generator[Step]:
        """All steps of these blocks; input is read ahead, for the next block too."""
        readers: dict[int, TileColumnReader] = {}
        reached = {self._grid.tile_column(block): self._selection.reach(block)[1:] for block in blocks}
        cache = ChunkCache(self._cache_bytes)
        previous: Region | None = None
        with ThreadPoolExecutor(_READERS) as executor:
            for block, upcoming in zip(blocks, [*blocks[1:], None], strict=True):
                region, column = self._grid.region(block), self._grid.tile_column(block)
                for left in [left for left in readers if left != column]:
                    del readers[left]
                for soon in (block, upcoming):
                    if soon is not None and self._selection.any(soon):
                        self._reader(readers, reached, soon, executor, cache).request(self._selection.reach(soon)[0])
                if not (self._selection.any(block) and self._occupied(readers[column], block)):
                    yield EmptyBlock(block, region)
                    previous = None
                    continue
                reader, kept = readers[column], self._selection.kept(block)
                if previous is None:
                    yield BeginBlock(region)
                layers = self._layers(block, previous)
                for layer in layers:
                    yield from self._layer(reader, self._selection.windows(block, layer))
                goes_on = self._follows(block, upcoming)
                yield EndBlock(block, region, kept, self._grid.region(block + 1) if goes_on else None)
                previous = region if goes_on else None
                if not goes_on:  # what lies free between the chunks kept for later columns would grow with their number
                    release_freed_memory()

    def count(self, blocks: Sequence[int]) -> tuple[int, int]:
        """Windows and batches of these blocks, those that read nothing but 0 included."""
        windows = batches = 0
        previous: Region | None = None
        for block, upcoming in zip(blocks, [*blocks[1:], None], strict=False):
            if not self._selection.any(block):
                previous = None
                continue
            for layer in self._layers(block, previous):
                found = len(self._selection.windows(block, layer))
                windows, batches = windows + found, batches - (-found // self.batch_size)
            previous = self._grid.region(block) if self._follows(block, upcoming) else None
        return windows, batches

    def bytes_to_read(self, blocks: Sequence[int]) -> int:
        """Bytes of the voxels that the windows of these blocks reach, before compression; once for each tile column."""
        planes: dict[int, tuple[Region, slice]] = {}
        for block in blocks:
            reach, column = self._selection.reach(block), self._grid.tile_column(block)
            start = planes[column][1].start if column in planes else reach[0].start
            planes[column] = reach, slice(start, reach[0].stop)
        return sum(self._bytes((z, *reach[1:])) for reach, z in planes.values())

    def bytes_at_once(self, blocks: Sequence[int]) -> int:
        """Bytes of input in memory: those of two blocks, of the batches on their way, and of the cache."""
        of_a_block = max((self._bytes(self._selection.reach(block)) for block in blocks), default=0)
        batch = self.batch_size * math.prod(axis.length for axis in self._axes) * 4
        return 2 * of_a_block + 4 * batch + self._cache_bytes

    def _bytes(self, region: Region) -> int:
        sides = (min(p.stop, size) - max(p.start, 0) for p, size in zip(region, self._grid.shape, strict=True))
        return math.prod(sides) * self._volume.array.dtype.itemsize

    def _layers(self, block: int, previous: Region | None) -> range:
        """The layers of a block that those of the block before, in the same tile column, don't have."""
        layers_of, wanted = self._axes[0].touching, self._selection.region(block)[0]
        layers = layers_of(wanted.start, wanted.stop)
        if previous is None:
            return layers
        return range(max(layers.start, layers_of(previous[0].start, previous[0].stop).stop), layers.stop)

    def _follows(self, block: int, upcoming: int | None) -> bool:
        return upcoming == block + 1 and self._grid.tile_column(upcoming) == self._grid.tile_column(block)

    def _occupied(self, reader: TileColumnReader, block: int) -> bool:
        """Whether the windows of a block read anything but 0."""
        planes = self._selection.reach(block)[0]
        reader.forget(planes.start)
        if self._reject_nonfinite:
            region, kept = self._selection.region(block), self._selection.kept(block)
            reader.refuse_nonfinite(region, self._grid.region(block), kept)
        return reader.occupied(planes)

    def _reader(
        self,
        readers: dict[int, TileColumnReader],
        reached: Mapping[int, tuple[slice, slice]],
        block: int,
        executor: ThreadPoolExecutor,
        cache: ChunkCache,
    ) -> TileColumnReader:
        column = self._grid.tile_column(block)
        if column not in readers:
            cache.forget(min(column, *readers) if readers else column)
            later = {other: extent for other, extent in reached.items() if other > column}
            readers[column] = TileColumnReader(self._volume, *reached[column], executor, cache, later)
        return readers[column]

    def _layer(self, reader: TileColumnReader, starts: Sequence[Size]) -> Iterator[Windows]:
        roi = [axis.length for axis in self._axes]
        for first in range(0, len(starts), self.batch_size):
            chosen = list(starts[first : first + self.batch_size])
            batch = torch.zeros(self.batch_size, 1, *roi, pin_memory=self._pin)
            for window, start in zip(batch.numpy()[:, 0], chosen, strict=False):
                reader.fill(window, start)
            yield Windows(batch, chosen)


def threads_of_each(network_threads: int) -> int:
    """Threads that torch uses for one batch when so many batches are computed at the same time."""
    return max(1, torch.get_num_threads() // network_threads)


def predicted(
    steps: Iterable[Step], predictor: WindowPredictor, network_threads: int = 1, waits: Waits | None = None
) -> Generator[tuple[Step, Logits | None]]:
    """The same steps in the same order, `Windows` with their logits.

    One batch more than there are threads is on its way, so that each finds the next one when it is done.
    """
    executor = ThreadPoolExecutor(
        network_threads,
        # The number of threads is a setting of each thread, and part of what the bytes depend on.
        initializer=torch.set_num_threads,
        initargs=(threads_of_each(network_threads),),
    )
    waiting: deque[tuple[Step, Future[Logits] | None]] = deque()
    waits = waits or Waits()
    coming = iter(steps)
    try:
        while True:
            with waits.on("reader"):
                step = next(coming, None)
            if step is None:
                break
            waiting.append((step, executor.submit(predictor, step.batch) if isinstance(step, Windows) else None))
            if len(waiting) > network_threads + 1:
                yield _result(*waiting.popleft(), waits)
        while waiting:
            yield _result(*waiting.popleft(), waits)
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _result(step: Step, logits: Future[Logits] | None, waits: Waits) -> tuple[Step, Logits | None]:
    with waits.on("network"):
        return step, None if logits is None else logits.result()
