"""Zarr volumes: opening them with errors that name the path, and the list of their stored chunks."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.core.sync import sync

from monai_ext.data.volumes_nifti import SUFFIXES as NIFTI
from monai_ext.data.volumes_nifti import open_nifti
from monai_ext.errors import DataError

# v3 names chunks c/0/0/0, v2 0.0.0 or 0/0/0
_CHUNK_KEY = re.compile(r"(?:c[/.])?(\d+(?:[/.]\d+)*)")
_METADATA = ("zarr.json", ".zarray")

# What stores report of a file besides its size, each under a key of its own.
_CHANGES = ("mtime", "ETag", "etag", "LastModified", "last_modified", "updated", "md5Hash")


def open_volume(source: str | Path, level: int = 0) -> zarr.Array:
    """Open a volume for reading: Zarr v2 or v3, local or any fsspec URL, an array or an OME-Zarr image; or NIfTI.

    Args:
        source: path or URL of the array, or of the OME-Zarr group above its resolution levels.
        level: resolution level of an OME-Zarr image, 0 the finest; an array has one level only.

    Raises:
        DataError: naming ``source``, when there is no such array or level.
    """
    node = open_node(source)
    if isinstance(node, zarr.Group):
        return _level(node, level, source)
    if level:
        raise DataError(f"is a single array; there is no level {level}, only 0", source)
    return node


def array_source(source: str | Path, level: int = 0) -> str:
    """Path or URL of the array behind ``source``: of a resolution level, or ``source`` where it is an array itself.

    Args:
        source: path or URL of an array, or of an OME-Zarr image.
        level: resolution level of an OME-Zarr image, 0 the finest; an array has no levels.

    Raises:
        DataError: see `open_volume`.
    """
    node = open_node(source)
    if isinstance(node, zarr.Array):
        return str(source)
    name = _level(node, level, source).path.removeprefix(node.path).strip("/")
    return f"{str(source).rstrip('/')}/{name}"


def channel_axis(shape: Sequence[int], spatial: Sequence[int]) -> int | None:
    """The channel axis of an array over a volume of shape ``spatial`` (Z, Y, X).

    Returns:
        None for (Z, Y, X), -1 for (Z, Y, X, C), 0 for (C, Z, Y, X); -1 when both of these fit.

    Raises:
        DataError: for any other shape.
    """
    shape, spatial = tuple(shape), tuple(spatial)
    if shape == spatial:
        return None
    if len(shape) == 4 and shape[:3] == spatial:
        return -1
    if len(shape) == 4 and shape[1:] == spatial:
        return 0
    raise DataError(f"the shape {shape} fits neither (Z, Y, X), (Z, Y, X, C) nor (C, Z, Y, X) with (Z, Y, X) {spatial}")


def open_node(source: str | Path) -> zarr.Array | zarr.Group:
    """The array or group at a path or URL; a NIfTI file as an array, see `open_nifti`.

    Raises:
        DataError: naming ``source``, when there is none.
    """
    if str(source).lower().endswith(NIFTI) and "://" not in str(source):
        return open_nifti(source)
    try:
        return zarr.open(str(source), mode="r")
    except FileNotFoundError:
        raise DataError("no Zarr array or group found; give the folder or URL with its metadata", source) from None
    except ImportError as error:
        raise DataError(f"can't be opened without another package ({error})", source) from error
    except Exception as error:  # each store has its own
        raise DataError(f"is not a readable Zarr array or group ({type(error).__name__}: {error})", source) from error


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
    """Grid coordinates (N, axes) of the chunks (shards, where there are any) that may hold other values than 0.

    These are the stored ones. Where the store can't list them, or where missing ones aren't 0, it is the whole grid.
    """
    grid = [-(-size // edge) for size, edge in zip(array.shape, storage_unit(array), strict=True)]
    named = _CHUNK_KEY.fullmatch(array.metadata.encode_chunk_key((0,) * array.ndim))
    found = None
    if not array.fill_value and array.store.supports_listing and named:
        found = sync(_listed(array))
    if found is None:
        return np.stack(np.unravel_index(np.arange(np.prod(grid, dtype=np.int64)), grid), axis=-1)
    places = np.array(found, dtype=np.int64).reshape(-1, array.ndim)
    # keys outside of the grid are left-overs of a larger array
    return places[(places < grid).all(axis=1)]


def volume_identity(source: str | Path, level: int = 0) -> dict[str, Any]:
    """Path, shape and type of a volume, and a digest of the sizes and times of all its files: plain values.

    A store that can't list its files (plain HTTP) gives the digest of an empty list: new content isn't noticed.
    Arguments and errors: see `open_volume`.
    """
    from fsspec.core import url_to_fs  # type: ignore[import-untyped]

    array = open_volume(source, level)
    store, place = url_to_fs(str(source))
    place = f"{place.rstrip('/')}/{array.path}".rstrip("/")
    digest = hashlib.sha256()
    try:
        files = store.find(place, detail=True)
    except Exception:  # forbidden, or not there at all: each store has its own words
        files = {}
    for name, entry in sorted(files.items()):
        changes = [str(entry[key]) for key in _CHANGES if key in entry]
        digest.update(f"{name.removeprefix(place)}\0{entry['size']}\0{' '.join(changes)}\n".encode())
    return {"path": place, "shape": list(array.shape), "dtype": str(array.dtype), "chunks": digest.hexdigest()}


def storage_unit(array: zarr.Array) -> tuple[int, ...]:
    """Voxels along each axis of the array's storage unit: a shard, or a chunk."""
    return array.shards or array.chunks


async def _listed(array: zarr.Array) -> list[tuple[int, ...]] | None:
    """Chunks in the store's list of keys; None where it can't be had.

    Some HTTP servers without an index give an empty list, not an error: a true one has the array's own metadata.
    """
    prefix = f"{array.path}/" if array.path else ""
    keys: AsyncIterator[str] = array.store.list_prefix(prefix)
    try:
        names = [key.removeprefix(prefix) async for key in keys]
    except Exception:  # forbidden, or not there at all: each store has its own words
        return None
    if not set(names) & set(_METADATA):
        return None
    chunks = [tuple(map(int, re.split("[/.]", match[1]))) for name in names if (match := _CHUNK_KEY.fullmatch(name))]
    return [chunk for chunk in chunks if len(chunk) == array.ndim]
