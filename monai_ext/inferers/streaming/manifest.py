"""The progress manifest of a prediction: its settings and finished blocks, in small files written atomically.

Its folder is called ``ledger``, so that predictions begun by an earlier version can be continued.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from monai_ext.errors import ConfigError
from monai_ext.inferers.streaming.folder import OutputFolder

Record = dict[str, Any]

logger = logging.getLogger(__name__)

_FOLDER = "ledger"
_SETTINGS = f"{_FOLDER}/settings.json"
_RECORDS = (f"{_FOLDER}/blocks", f"{_FOLDER}/levels", f"{_FOLDER}/arrays")
# Settings that were added later, and their values in predictions begun before.
_ONCE_IMPLIED = {"tf32": True}


class ProgressManifest:
    """``ledger/settings.json``, and a file in ``ledger/blocks`` for every finished block.

    Any number of processes write to it without locks: each file appears in one step, and whoever computes a block
    writes the same bytes.

    Args:
        output: folder of the prediction: a path, or the URL of an object store.
    """

    def __init__(self, output: str | Path | OutputFolder) -> None:
        self.output = OutputFolder.of(output)

    @property
    def begun(self) -> bool:
        """Whether there are settings."""
        return self.output.exists(_SETTINGS)

    @property
    def is_known(self) -> bool:
        """Whether there are settings, or records whose settings were lost."""
        return self.begun or any(self.output.names(folder) for folder in _RECORDS)

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Write the settings, or compare them with those that are there.

        Records whose settings were lost prove nothing: their blocks are computed again.

        Raises:
            ConfigError: listing the settings that differ.
            WriteError: when they can't be written.
        """
        ours = json.loads(json.dumps(settings))
        folders = () if self.begun else _RECORDS
        records = [f"{folder}/{name}" for folder in folders for name in self.output.names(folder)]
        # asked again: another process may have written the settings, and then its first record
        if not self.begun:
            if records:
                logger.warning("%s/%s is lost; all blocks are computed again", self.output, _SETTINGS)
            for record in records:
                self.output.remove(record)
            self.output.write_once(_SETTINGS, {"sha256": _digest(ours), **ours})
        implied = {name: value for name, value in _ONCE_IMPLIED.items() if name in ours}
        theirs = implied | self.settings()
        theirs.pop("sha256", None)
        differing = list(_differences(theirs, ours))
        if differing:
            raise ConfigError(
                f"{self.output}: was begun with other settings ({'; '.join(differing)}); continue with the same "
                "ones, or give another output"
            )

    def settings(self) -> dict[str, Any]:
        """The settings it was begun with.

        Raises:
            DataError: when there are none.
        """
        settings: dict[str, Any] = self.output.read(_SETTINGS)
        return settings

    def finished(self) -> set[int]:
        """Numbers of the finished blocks."""
        names = self.output.names(f"{_FOLDER}/blocks")
        return {int(name.removesuffix(".json")) for name in names if name[:-5].isdigit()}

    def is_finished(self, block: int) -> bool:
        return self.output.exists(self._block(block))

    def record(self, block: int, content: Record) -> None:
        """Record that a block is finished, once all of it is on the disk."""
        self.output.write(self._block(block), content)

    def read(self, block: int) -> Record:
        """The record of a finished block."""
        record: Record = self.output.read(self._block(block))
        return record

    def forget(self, block: int) -> None:
        """Remove the record of a block, so that it is computed again."""
        self.output.remove(self._block(block))

    def step(self, name: str) -> Record | None:
        """The record of a step after the blocks; None when it isn't finished."""
        key = f"{_FOLDER}/{name}.json"
        return self.output.read(key) if self.output.exists(key) else None

    def record_step(self, name: str, content: Record) -> None:
        self.output.write(f"{_FOLDER}/{name}.json", content)

    def forget_step(self, name: str) -> None:
        self.output.remove(f"{_FOLDER}/{name}.json")

    def claim(self, group: str, member: str, count: int) -> int:
        """A number below ``count`` for a member of a group, the same whenever it asks.

        Raises:
            ConfigError: when other members have them all.
            WriteError: when it can't be written.
        """
        for number in range(count):
            key = f"{_FOLDER}/arrays/{group}.{number}.json"
            if not self.output.exists(key):
                self.output.write_once(key, {"task": member})
            if self.output.read(key)["task"] == member:
                return number
        raise ConfigError(f"{self.output}: more than {count} tasks of job {group} work on it; give --part and --parts")

    def alone(self) -> contextlib.AbstractContextManager[bool]:
        """Whether this process may finish the prediction; see `OutputFolder.alone`."""
        return self.output.alone(f"{_FOLDER}/.lock")

    def _block(self, block: int) -> str:
        return f"{_FOLDER}/blocks/{block:08d}.json"


def _digest(settings: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _differences(theirs: Mapping[str, Any], ours: Mapping[str, Any], of: str = "") -> Iterator[str]:
    """The settings that differ, those within others as ``targets.sheet.dtype``."""
    for name in sorted({*theirs, *ours}):
        there, now = theirs.get(name), ours.get(name)
        if isinstance(there, dict) and isinstance(now, dict):
            yield from _differences(there, now, f"{of}{name}.")
        elif there != now:
            yield f"{of}{name}: there {json.dumps(there)}, now {json.dumps(now)}"
