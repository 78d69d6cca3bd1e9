"""The progress manifest of a prediction: its settings and finished blocks, in small files written atomically.

Its folder is called ``ledger``, so that predictions begun by an earlier version can be continued.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from monai_ext.errors import ConfigError
from monai_ext.io import TEMPORARY_SUFFIX, read_json, sweep_partial, write_json
from monai_ext.system_errors import writing

Record = dict[str, Any]

logger = logging.getLogger(__name__)

_FOLDER = "ledger"
# Settings that were added later, and their values in predictions begun before.
_ONCE_IMPLIED = {"tf32": True}


class ProgressManifest:
    """``ledger/settings.json``, and a file in ``ledger/blocks`` for every finished block.

    Any number of processes write to it without locks: each file appears in one step, and whoever computes a block
    writes the same bytes.

    Args:
        output: folder of the prediction.
    """

    def __init__(self, output: str | Path) -> None:
        self.folder = Path(output) / _FOLDER

    @property
    def begun(self) -> bool:
        """Whether there are settings."""
        return (self.folder / "settings.json").exists()

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Write the settings, or compare them with those that are there.

        Records whose settings were lost prove nothing: their blocks are computed again.

        Raises:
            ConfigError: listing the settings that differ.
            WriteError: when they can't be written.
        """
        file = self.folder / "settings.json"
        ours = json.loads(json.dumps(settings))
        records = [] if file.exists() else list(self.folder.glob("*/*.json"))
        # asked again: another process may have written the settings, and then its first record
        if not file.exists():
            if records:
                logger.warning("%s is lost; all blocks are computed again", file)
            for record in records:
                record.unlink(missing_ok=True)
            _write_once(file, {"sha256": _digest(ours), **ours})
        implied = {name: value for name, value in _ONCE_IMPLIED.items() if name in ours}
        theirs = implied | read_json(file)
        theirs.pop("sha256", None)
        differing = list(_differences(theirs, ours))
        if differing:
            raise ConfigError(
                f"{self.folder.parent}: was begun with other settings ({'; '.join(differing)}); continue with the same "
                "ones, or give another output"
            )

    def settings(self) -> dict[str, Any]:
        """The settings it was begun with.

        Raises:
            DataError: when there are none.
        """
        return read_json(self.folder / "settings.json")

    def finished(self) -> set[int]:
        """Numbers of the finished blocks."""
        with contextlib.suppress(FileNotFoundError):
            names = (entry.name for entry in os.scandir(self.folder / "blocks"))
            return {int(name.removesuffix(".json")) for name in names if name[:-5].isdigit()}
        return set()

    def is_finished(self, block: int) -> bool:
        return self._file(block).exists()

    def record(self, block: int, content: Record) -> None:
        """Record that a block is finished, once all of it is on the disk."""
        write_json(self._file(block), content)

    def read(self, block: int) -> Record:
        """The record of a finished block."""
        return read_json(self._file(block))

    def forget(self, block: int) -> None:
        """Remove the record of a block, so that it is computed again."""
        self._file(block).unlink(missing_ok=True)

    def step(self, name: str) -> Record | None:
        """The record of a step after the blocks; None when it isn't finished."""
        file = self.folder / f"{name}.json"
        return read_json(file) if file.exists() else None

    def record_step(self, name: str, content: Record) -> None:
        write_json(self.folder / f"{name}.json", content)

    def forget_step(self, name: str) -> None:
        (self.folder / f"{name}.json").unlink(missing_ok=True)

    def claim(self, group: str, member: str, count: int) -> int:
        """A number below ``count`` for a member of a group, the same whenever it asks.

        Raises:
            ConfigError: when other members have them all.
            WriteError: when it can't be written.
        """
        for number in range(count):
            file = self.folder / "arrays" / f"{group}.{number}.json"
            if not file.exists():
                _write_once(file, {"task": member})
            if read_json(file)["task"] == member:
                return number
        raise ConfigError(f"{self.folder}: more than {count} tasks of job {group} work on it; give --part and --parts")

    def sweep(self) -> None:
        """Remove unfinished files of killed writers, while no block is computed."""
        sweep_partial(self.folder)

    @contextlib.contextmanager
    def alone(self) -> Iterator[bool]:
        """Whether this process holds the lock; it ends with its process, however that dies.

        Raises:
            WriteError: when the lock can't be written, or the file system has none.
        """
        alone = True
        with contextlib.ExitStack() as held:
            with writing(self.folder / ".lock"):
                lock = held.enter_context(open(self.folder / ".lock", "a", encoding="utf-8"))
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    alone = False
            yield alone

    def _file(self, block: int) -> Path:
        return self.folder / "blocks" / f"{block:08d}.json"


def _write_once(file: Path, content: Record) -> None:
    """Of several processes the first one's content stays."""
    own = write_json(file.with_name(f".{file.stem}.{uuid.uuid4().hex}{TEMPORARY_SUFFIX}{file.suffix}"), content)
    try:
        with writing(file), contextlib.suppress(FileExistsError):
            os.link(own, file)
    finally:
        own.unlink()


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
