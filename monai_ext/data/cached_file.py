"""Results cached in a JSON file beside a record of their inputs, and made again when these have changed."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from monai_ext.errors import DataError
from monai_ext.io import read_json, write_json

logger = logging.getLogger(__name__)


def cached(file: Path, made_from: dict[str, Any], make: Callable[[], Any], redone: str) -> Any:
    """The result of ``make()``, read from ``file`` while it is up to date.

    ``made_from`` is beside it, in ``<name>.made_from.json``. Any difference, in the file itself too, is logged with
    ``redone`` ("the patches are found again"). Both files are written whole or not at all.
    """
    if file.exists():
        stale = _difference(file, made_from)
        if not stale:
            return read_json(file)
        logger.warning("%s: %s; %s", file, stale, redone)
    result = make()
    # A kill between the two leaves a digest of another content: stale, never wrong.
    write_json(file, result)
    write_json(made_from_file(file), {**made_from, "content": _digest(file)})
    return result


def made_from_file(file: str | Path) -> Path:
    """The file in which `cached` records the inputs of ``file``."""
    return Path(file).with_name(f"{Path(file).stem}.made_from.json")


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _difference(file: Path, made_from: dict[str, Any]) -> str | None:
    """The reason why ``file`` is stale, in words; None when it is up to date."""
    try:
        then = read_json(made_from_file(file))
    except DataError:
        return f"what it was made from is not known ({made_from_file(file).name})"
    if not isinstance(then, dict) or then.get("content") != _digest(file):
        return "its content is not what was written"
    changed = [name for name, value in made_from.items() if then.get(name) != value]
    return f"{' and '.join(changed)} changed" if changed else None
