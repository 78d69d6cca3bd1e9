"""One prediction from a Zarr volume to Zarr images: any of its blocks, in any process, in any order."""

from __future__ import annotations

import logging
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np
import torch

from monai_ext.errors import DataError
from monai_ext.inferers.streaming.blending import TileColumnBlend
from monai_ext.inferers.streaming.geometry import BlockGrid, Region, VoxelSpace
from monai_ext.inferers.streaming.manifest import ProgressManifest
from monai_ext.inferers.streaming.output import OutputStore
from monai_ext.inferers.streaming.predictor import WindowPredictor
from monai_ext.inferers.streaming.pyramid import add_levels
from monai_ext.inferers.streaming.reading import Ahead
from monai_ext.inferers.streaming.selection import Selection
from monai_ext.inferers.streaming.shard import Shard
from monai_ext.inferers.streaming.steps import (
    BeginBlock,
    EmptyBlock,
    EndBlock,
    Steps,
    Windows,
    predicted,
    threads_of_each,
)
from monai_ext.inferers.streaming.waits import Waits
from monai_ext.memory import FullMemoryError, is_out_of_memory

logger = logging.getLogger(__name__)

Encoded = dict[str, np.ndarray]

# Batches that wait for the network, and blocks that wait for the disk.
_BATCHES_AHEAD = 2
_BLOCKS_BEHIND = 1
# Planes that are activated and encoded at once, so that their intermediate results stay small.
_PLANES = 16


class Predicted(NamedTuple):
    """Result of a call of `ZarrSlidingWindow`."""

    blocks: int
    """Blocks that it computed, or found to be empty."""
    ready: int
    """Blocks of its shard that were finished before."""
    complete: bool
    """Whether all blocks of all processes are finished, and the output with them."""


@dataclass(frozen=True)
class PredictionJob:
    """A prediction: input, network, output and progress.

    Attributes:
        grid: blocks of the volume.
        selection: the blocks that have an output.
        steps: the windows of blocks, batch by batch.
        predictor: the network.
        weights: importance of a window's voxels, on the network's device.
        store: the output.
        manifest: the finished blocks.
        space: position and size of the voxels.
        pyramid_levels: how many coarser levels to add at the end.
        network_threads: batches that the network computes at the same time.
        tf32: whether a GPU may compute float32 in TF32.
        progress: show a bar on a terminal.
    """

    grid: BlockGrid
    selection: Selection
    steps: Steps
    predictor: WindowPredictor
    weights: torch.Tensor
    store: OutputStore
    manifest: ProgressManifest
    space: VoxelSpace
    pyramid_levels: int
    network_threads: int
    tf32: bool
    progress: bool

    @cached_property
    def _candidates(self) -> np.ndarray:
        return self.selection.candidates()

    def shard(self, index: int, count: int) -> Shard:
        """The blocks for process ``index`` (from 0) of ``count``."""
        return Shard.of(index, count, len(self.grid), self._candidates, self.manifest.finished())

    def share(self, part: int, parts: int) -> Shard:
        """Old name of `shard`."""
        warnings.warn(
            "PredictionJob.share is now shard; the old name goes with the next version", DeprecationWarning, 2
        )
        return self.shard(part, parts)

    def compute(self, blocks: Sequence[int], empty: Sequence[int] = ()) -> None:
        """Compute and write blocks (in ascending order), and record each that is finished.

        Args:
            blocks: numbers of the blocks to compute.
            empty: numbers of blocks without output, which are only recorded.

        Raises:
            DataError: when the input can't be read, or the network predicts NaN or infinite values.
            WriteError: when the output can't be written.
            FullMemoryError: when the memory doesn't suffice.
            RuntimeError: any that the network raises, other than out of memory.
        """  # noqa: DOC501 (a MemoryError is never raised again: it always means out of memory)
        try:
            self._compute(blocks, empty)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise FullMemoryError(
                f"out of memory on {self.predictor.device} with {self.steps.batch_size} windows at once and blocks of "
                f"{list(self.grid.block_size)} voxels; take a smaller batch_size or block_size (finished blocks stay)"
            ) from error

    def _compute(self, blocks: Sequence[int], empty: Sequence[int]) -> None:
        from tqdm import tqdm

        for block in empty:
            self.manifest.record(block, {"empty": True})
        if not blocks:
            if empty:
                self._say_that_nothing_is_kept()
            return
        blend = TileColumnBlend(
            {name: target.channels for name, target in self.store.targets.items()},
            self.weights,
            self.grid.block_size,
            self.grid.shape,
        )
        voxels = sum(_voxels(self.grid.region(block)) for block in blocks)
        waits = Waits()
        written = False
        with (
            torch.inference_mode(),
            same_algorithms(self.predictor.device, self.tf32),
            _BlockWriter(self.store, self.manifest, threads_of_each(self.network_threads), waits) as writer,
            tqdm(
                total=voxels, unit="voxel", unit_scale=True, disable=None if self.progress else True, desc="blocks"
            ) as bar,
            Ahead(self.steps.of(blocks), _BATCHES_AHEAD) as steps,
            closing(predicted(steps, self.predictor, self.network_threads, waits)) as answers,
        ):
            for step, logits in answers:
                bar.set_postfix_str(str(waits), refresh=False)
                match step:
                    case BeginBlock():
                        blend.begin(step.region)
                    case Windows():
                        blend.add(logits or {}, step.starts)
                    case EndBlock():
                        written = True
                        blended = blend.finish(step.region, step.following)
                        writer.write(step.block, step.region, blended, step.kept)
                        bar.update(_voxels(step.region))
                    case EmptyBlock():
                        writer.skip(step.block)
                        bar.update(_voxels(step.region))
        if not written:
            self._say_that_nothing_is_kept()

    def _say_that_nothing_is_kept(self) -> None:
        logger.warning(
            "%s: no voxel of these blocks is kept, all are 0; look at mask and bbox, and whether the input is 0 there",
            self.store.folder,
        )

    def finish(self) -> bool:
        """Add the coarser levels when all blocks are recorded; True when the output is complete."""
        if len(self.manifest.finished()) < len(self.grid):
            return False
        with self.manifest.alone() as alone:
            if alone:
                add_levels(self.store, self.manifest, self.space, self.pyramid_levels)
            else:
                logger.info("%s: another process is finishing it", self.store.folder)
            return alone


class _BlockWriter:
    """Activates and writes blocks in a thread while the network goes on; records each when it is on the disk."""

    def __init__(self, store: OutputStore, manifest: ProgressManifest, threads: int, waits: Waits) -> None:
        self._store, self._manifest, self._waits = store, manifest, waits
        self._executor = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(threads,))
        self._waiting: deque[Future[None]] = deque()

    def __enter__(self) -> _BlockWriter:
        return self

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        # Also after an error: computed blocks are not lost.
        self._executor.shutdown(wait=True)
        if failed is None:
            for future in self._waiting:
                future.result()

    def write(self, block: int, region: Region, logits: dict[str, torch.Tensor], kept: np.ndarray | None) -> None:
        """Write the blended logits (channels, Z, Y, X) of a block activated, 0 where they aren't kept.

        Waits for a place. A GPU encodes them itself, at once: a quarter of the bytes crosses to the host, and none of
        its memory waits for the disk. On a CPU the thread does it while the network goes on.
        """
        if any(each.device.type != "cpu" for each in logits.values()):
            ready = self._encoded(logits, region, kept)
            self._submit(self._write, block, region, lambda: ready)
        else:
            self._submit(self._write, block, region, partial(self._encoded, logits, region, kept))

    def skip(self, block: int) -> None:
        """Record a block as empty."""
        self._submit(self._manifest.record, block, {"empty": True})

    def _submit(self, work: object, *arguments: object) -> None:
        while len(self._waiting) >= _BLOCKS_BEHIND:
            with self._waits.on("writer"):
                self._waiting.popleft().result()
        self._waiting.append(self._executor.submit(work, *arguments))  # type: ignore[arg-type]

    def _write(self, block: int, region: Region, encoded: Callable[[], Encoded]) -> None:
        if self._manifest.is_finished(block):
            return
        keys = {name: self._store.write(name, region, stored) for name, stored in encoded().items()}
        self._manifest.record(block, {"chunks": keys})

    def _encoded(self, logits: dict[str, torch.Tensor], region: Region, kept: np.ndarray | None) -> Encoded:
        """The stored values of a block, on the host."""
        found = {}
        for name, blended in logits.items():
            target = self._store.targets[name]
            shape = blended.shape[-len(target.axes) :]
            stored = torch.empty(shape, dtype=getattr(torch, target.dtype), pin_memory=blended.is_cuda)
            for first in range(0, blended.shape[1], _PLANES):
                planes = (..., slice(first, first + _PLANES), slice(None), slice(None))
                part, inside = blended[planes], None
                if kept is not None:  # elsewhere there may be no window at all: 0 / 0
                    inside = torch.from_numpy(kept[planes]).to(part.device)
                    part = torch.where(inside, part, 0.0)
                if not torch.isfinite(part).all():
                    raise DataError(_not_finite(name, region), str(self._store.folder))
                values = target.activate(part)
                stored[planes].copy_(target.encode(values if inside is None else torch.where(inside, values, 0.0)))
            found[name] = stored.numpy()
        return found


def _not_finite(name: str, region: Region) -> str:
    voxels = ", ".join(f"{part.start}:{part.stop}" for part in region)
    return (
        f"target {name!r}: the network gives NaN or infinite values in [{voxels}]; look for such voxels in the input, "
        "or take precision fp32"
    )


@contextmanager
def same_algorithms(device: torch.device, tf32: bool) -> Iterator[None]:
    """On a GPU: TF32 as asked for, and no algorithm chosen by timing, which may choose another in the next process."""
    if device.type != "cuda":
        yield
        return
    matmul = torch.backends.cuda.matmul
    before, matmul.allow_tf32 = matmul.allow_tf32, tf32
    try:
        with torch.backends.cudnn.flags(
            enabled=torch.backends.cudnn.enabled, benchmark=False, deterministic=True, allow_tf32=tf32
        ):
            yield
    finally:
        matmul.allow_tf32 = before


def _voxels(region: Region) -> int:
    z, y, x = (part.stop - part.start for part in region)
    return z * y * x
