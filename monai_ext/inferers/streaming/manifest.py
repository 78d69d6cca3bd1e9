"""The progress manifest of a prediction: its settings and finished blocks, in small files written atomically.

Its folder is called ``ledger``, so that predictions begun by an earlier version can be continued.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from monai_ext.errors import ConfigError
from monai_ext.io import TEMPORARY_SUFFIX, read_json, sweep_partial, write_json
from monai_ext.system_errors import writing

Record = dict[str, Any]

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

        Raises:
            ConfigError: listing the settings that differ.
            WriteError: when they can't be written.
        """
        file = self.folder / "settings.json"
        ours = json.loads(json.dumps(settings))
        if not file.exists():
            _write_once(file, {"sha256": _digest(ours), **ours})
        implied = {name: value for name, value in _ONCE_IMPLIED.items() if name in ours}
        theirs = implied | read_json(file)
        theirs.pop("sha256", None)
        differing = [
            f"{name}: there {_short(theirs.get(name))}, now {_short(ours.get(name))}"
            for name in sorted({*ours, *theirs})
            if ours.get(name) != theirs.get(name)
        ]
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


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
