"""Zarr volumes: opening them with errors that name the place, and the list of the chunks they hold."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.core.sync import sync

from monai_ext.errors import DataError

# v3 names chunks c/0/0/0, v2 0.0.0 or 0/0/0
_CHUNK_KEY = re.compile(r"(?:c[/.])?(\d+)[/.](\d+)[/.](\d+)")

# What stores tell of a file besides its size, each in its own words.
_CHANGES = ("mtime", "ETag", "etag", "LastModified", "last_modified", "updated", "md5Hash")


def open_volume(source: str | Path, level: int = 0) -> zarr.Array:
    """Open a volume for reading: Zarr v2 or v3, local or any fsspec URL, an array or an OME-Zarr image.

    Args:
        source: of the array, or of the OME-Zarr group above its resolution levels.
        level: resolution level of an OME-Zarr image, 0 the finest; an array has one level only.

    Raises:
        DataError: naming ``source``, when there is no such array or level.
    """
    try:
        node = zarr.open(str(source), mode="r")
    except FileNotFoundError:
        raise DataError("no Zarr array or group found; give the folder or URL with its metadata", source) from None
    except ImportError as error:
        raise DataError(f"can't be opened without another package ({error})", source) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"is not a readable Zarr array or group ({type(error).__name__}: {error})", source) from error
    if isinstance(node, zarr.Group):
        return _level(node, level, source)
    if level:
        raise DataError(f"is a single array; there is no level {level}, only 0", source)
    return node


def _level(group: zarr.Group, level: int, source: str | Path) -> zarr.Array:
    attributes: dict[str, Any] = dict(group.attrs)
    attributes = attributes.get("ome", attributes)
    try:
        paths = [dataset["path"] for dataset in attributes["multiscales"][0]["datasets"]]
    except (KeyError, IndexError, TypeError):
        names = sorted(name for name, _ in group.arrays())
        raise DataError(f"is a group without OME-Zarr levels; add one of its arrays: {names}", source) from None
    if not 0 <= level < len(paths):
        raise DataError(f"has the levels 0 to {len(paths) - 1}; there is no level {level}", source)
    array = group.get(paths[level])
    if not isinstance(array, zarr.Array):
        raise DataError(f"names {paths[level]!r} as level {level}, but there is no such array", source)
    return array


def stored_chunks(array: zarr.Array) -> np.ndarray:
    """Grid coordinates (N, 3) of the chunks (of the shards, where there are any) that may hold other values than 0.

    These are the stored ones. Where the store can't list them, or where missing ones aren't 0, it is the whole grid.
    """
    grid = [-(-size // edge) for size, edge in zip(array.shape, storage_unit(array), strict=True)]
    named = _CHUNK_KEY.fullmatch(array.metadata.encode_chunk_key((0, 0, 0)))
    if array.fill_value or not array.store.supports_listing or not named:
        return np.stack(np.unravel_index(np.arange(np.prod(grid, dtype=np.int64)), grid), axis=-1)
    found = np.array(sync(_listed(array)), dtype=np.int64).reshape(-1, 3)
    # keys outside of the grid are left-overs of a larger array
    return found[(found < grid).all(axis=1)]


def fingerprint(source: str | Path, level: int = 0) -> dict[str, Any]:
    """Place, shape and type of a volume, and a digest of the sizes and times of all its chunks: plain values.

    Arguments and errors: see `open_volume`.
    """
    from fsspec.core import url_to_fs  # type: ignore[import-untyped]

    array = open_volume(source, level)
    store, place = url_to_fs(str(source))
    place = f"{place.rstrip('/')}/{array.path}".rstrip("/")
    digest = hashlib.sha256()
    for name, entry in sorted(store.find(place, detail=True).items()):
        changes = [str(entry[key]) for key in _CHANGES if key in entry]
        digest.update(f"{name.removeprefix(place)}\0{entry['size']}\0{' '.join(changes)}\n".encode())
    return {"path": place, "shape": list(array.shape), "dtype": str(array.dtype), "chunks": digest.hexdigest()}


def storage_unit(array: zarr.Array) -> tuple[int, ...]:
    """Voxels along each axis of what the store holds under one key: a shard, or a chunk."""
    return array.shards or array.chunks


async def _listed(array: zarr.Array) -> list[Sequence[int]]:
    prefix = f"{array.path}/" if array.path else ""
    keys: AsyncIterator[str] = array.store.list_prefix(prefix)
    return [
        tuple(map(int, match.groups()))
        async for key in keys
        if (match := _CHUNK_KEY.fullmatch(key.removeprefix(prefix)))
    ]
