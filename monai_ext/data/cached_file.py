"""Results kept in a JSON file, with what they were made from beside it, and made again when that has changed."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from monai_ext.data.volumes_zarr import open_volume
from monai_ext.errors import DataError
from monai_ext.io import read_json, write_json

logger = logging.getLogger(__name__)

# What stores tell of a file besides its size, each in its own words.
_CHANGES = ("mtime", "ETag", "etag", "LastModified", "last_modified", "updated", "md5Hash")


def cached(file: Path, made_from: dict[str, Any], make: Callable[[], Any], redone: str) -> Any:
    """What ``make()`` gives, from ``file`` where it is still true.

    ``made_from`` lies beside it, in ``<name>.made_from.json``. Whatever differs, in the file itself too, is logged with
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


def described(source: str | Path) -> dict[str, Any]:
    """A Zarr array: its place, shape, type, and a digest of the sizes and times of all its files.

    A store that can't list its files (plain HTTP) gives the digest of nothing: new content of one shape isn't seen.
    """
    from fsspec.core import url_to_fs  # type: ignore[import-untyped]

    array = open_volume(source)
    store, place = url_to_fs(str(source))
    digest = hashlib.sha256()
    try:
        files = store.find(place, detail=True)
    except Exception:  # forbidden, or not there at all: each store has its own words
        files = {}
    for name, entry in sorted(files.items()):
        changes = [str(entry[key]) for key in _CHANGES if key in entry]
        digest.update(f"{name.removeprefix(place)}\0{entry['size']}\0{' '.join(changes)}\n".encode())
    return {"path": place, "shape": list(array.shape), "dtype": str(array.dtype), "chunks": digest.hexdigest()}


def made_from_file(file: str | Path) -> Path:
    """Where `cached` writes what ``file`` was made from."""
    return Path(file).with_name(f"{Path(file).stem}.made_from.json")


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _difference(file: Path, made_from: dict[str, Any]) -> str | None:
    """What makes ``file`` stale, in words; None when nothing does."""
    try:
        then = read_json(made_from_file(file))
    except DataError:
        return f"what it was made from is not known ({made_from_file(file).name})"
    if not isinstance(then, dict) or then.get("content") != _digest(file):
        return "its content is not what was written"
    changed = [name for name, value in made_from.items() if then.get(name) != value]
    return f"{' and '.join(changed)} changed" if changed else None
