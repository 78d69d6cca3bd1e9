"""Check of a finished or interrupted prediction for missing and damaged chunks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from monai_ext.data.problems import Problem
from monai_ext.errors import DataError
from monai_ext.inferers.streaming.geometry import BlockGrid, Region
from monai_ext.inferers.streaming.manifest import ProgressManifest
from monai_ext.inferers.streaming.output import OutputStore
from monai_ext.inferers.streaming.pyramid import step_name, units
from monai_ext.inferers.streaming.targets import StoredTarget


class ZarrPrediction:
    """A prediction that `ZarrSlidingWindow` wrote to a folder; neither the network nor the input is needed.

    Args:
        output: path or URL of the prediction.

    Raises:
        DataError: when there is no prediction.
    """

    def __init__(self, output: str | Path) -> None:
        self._manifest = ProgressManifest(output)
        settings = self._manifest.settings()
        self._store = OutputStore(
            self._manifest.output,
            {name: StoredTarget(**target) for name, target in settings["targets"].items()},
            tuple(settings["shape"]),
            tuple(settings["chunk_size"]),
            settings["shard_size"] and tuple(settings["shard_size"]),
            settings["zarr_format"],
        )
        self._grid = BlockGrid(settings["shape"], settings["block_size"])

    def missing_blocks(self) -> list[int]:
        """Numbers of the blocks that aren't finished."""
        return sorted(set(range(len(self._grid))) - self._manifest.finished())

    def verify(self, repair: bool = False) -> list[Problem]:
        """Read all that is recorded as written; missing, truncated and changed chunks are found by their checksums.

        Args:
            repair: remove the records of damaged blocks, and of all coarser levels when a block is, so that the next
                call of `ZarrSlidingWindow` makes it again.
        """
        problems: list[Problem] = []
        damaged_blocks, damaged_levels = [], []
        for block in sorted(self._manifest.finished()):
            found = list(self._damaged_block(block))
            problems += found
            if found:
                damaged_blocks.append(block)
        for name in self._store.targets:
            level = 1
            while (record := self._manifest.step(step_name(name, level))) is not None:
                found = list(self._damaged_level(name, level, set(record["chunks"][name])))
                problems += found
                if found or damaged_blocks:
                    damaged_levels.append(step_name(name, level))
                level += 1
        if repair:
            for step in damaged_levels:
                self._manifest.forget_step(step)
            for block in damaged_blocks:
                self._manifest.forget(block)
        return problems

    def _damaged_block(self, block: int) -> Iterator[Problem]:
        try:
            keys = self._manifest.read(block).get("chunks", {})
        except DataError as error:  # a record that isn't whole proves nothing
            yield Problem.of(error)
            return
        for name in keys:
            yield from self._damage(name, self._grid.region(block), 0, keys[name])

    def _damaged_level(self, name: str, level: int, keys: set[str]) -> Iterator[Problem]:
        for region in units(self._store, level):
            yield from self._damage(
                name, region, level, sorted(keys.intersection(self._store.keys(name, region, level)))
            )

    def _damage(self, name: str, region: Region, level: int, keys: list[str]) -> Iterator[Problem]:
        image = self._store.image(name)
        missing = [key for key in keys if not self._store.is_stored(name, key)]
        yield from (Problem(f"{image}/{key}", "is missing; it was written") for key in missing)
        if keys and not missing:
            try:
                self._store.read(name, region, level)
            except DataError as error:
                yield Problem(image, str(error).removeprefix(f"{image}: "))
