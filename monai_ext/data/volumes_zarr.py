"""Zarr volumes: opening them with errors that name the path, and the list of their stored chunks."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.core.sync import sync

from monai_ext.data.chunk_names import check_chunk_names, refuse_misnamed
from monai_ext.data.found_volume import find_volume
from monai_ext.data.ome_image import AXES
from monai_ext.data.volume_view import Volume, VolumeView, view_of
from monai_ext.data.zarr_source import ZarrSource
from monai_ext.errors import DataError

_METADATA = ("zarr.json", ".zarray")
# What no volume has, but metadata may claim: loops and tables would be as long.
_MOST_CHUNKS, _MOST_VOXELS, _MOST_BYTES = 1 << 31, 1 << 48, 1 << 36

# What stores report of a file besides its size, each under a key of its own.
_CHANGES = ("mtime", "ETag", "etag", "LastModified", "last_modified", "updated", "md5Hash")


def open_volume(
    source: str | Path,
    level: int = 0,
    channel: int | None = None,
    timepoint: int | None = None,
    *,
    channels: bool = False,
) -> Volume:
    """Open a volume (Z, Y, X) for reading: Zarr v2 or v3, local, a .zip or any fsspec URL, an array or an OME-Zarr
    image; or NIfTI.

    Axes are read by their names, in whichever order (those of OME-Zarr, the array's ``dimension_names``, xarray's);
    without names they are the last of t, c, z, y, x.

    Args:
        source: path or URL of the array, or of the OME-Zarr group above its resolution levels; ``#channel=1``,
            ``#timepoint=0`` or ``#channel=1,timepoint=0`` at its end chooses from it.
        level: resolution level of an OME-Zarr image, 0 the finest; an array has one level only.
        channel: index from 0, where there are several and ``source`` doesn't choose.
        timepoint: index from 0, where there are several and ``source`` doesn't choose.
        channels: keep the channel axis, (C, Z, Y, X). An array of four axes without names is given as it is.

    Raises:
        DataError: naming ``source``, when there is no such array or level, its metadata can't be, its chunks have names
            that don't fit them, or several channels or timepoints and no choice.
    """
    found = find_volume(source, level, channel, timepoint)
    where = found.source.place
    _check_claims(found.array, where)
    check_chunk_names(found.array, where)
    return view_of(found.array, found.axes, found.source.channel, found.source.timepoint, channels, where)


def array_source(source: str | Path, level: int = 0, channel: int | None = None, timepoint: int | None = None) -> str:
    """Path or URL of the array behind ``source``: of a resolution level, or ``source`` where it is an array itself;
    with ``#channel=1``, ``#timepoint=0`` where it has several.

    Args:
        source: path or URL of an array, or of an OME-Zarr image.
        level: resolution level of an OME-Zarr image, 0 the finest; an array has no levels.
        channel: index from 0; for an array that has channels and doesn't choose.
        timepoint: index from 0; for an array that has timepoints and doesn't choose.

    Raises:
        DataError: see `open_volume`.
    """
    own = ZarrSource.of(source)
    found = find_volume(source, level, channel, timepoint, level_of_arrays=True)
    names = found.axes or AXES[-found.array.ndim :]
    return str(
        ZarrSource(
            found.source.place,
            found.source.channel if own.channel is not None or "c" in names else None,
            found.source.timepoint if own.timepoint is not None or "t" in names else None,
        )
    )


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


def _check_claims(array: zarr.Array, where: str) -> None:
    """Refuse what no volume has.

    Raises:
        DataError: for an axis or a chunk without voxels, or far too many of either.
    """
    if array.dtype.kind not in "biuf":
        raise DataError(f"holds values of type {array.dtype}; integers or floats are needed", where)
    shape, unit = array.shape, storage_unit(array)
    if min(*shape, *unit, *array.chunks, 1) < 1:
        raise DataError(f"has no voxels: shape {shape}, chunks {array.chunks}", where)
    chunks = math.prod(-(-size // edge) for size, edge in zip(shape, unit, strict=True))
    if (
        chunks > _MOST_CHUNKS
        or math.prod(shape) > _MOST_VOXELS
        or math.prod(array.chunks) * array.dtype.itemsize > _MOST_BYTES
    ):
        raise DataError(
            f"claims {chunks} chunks of {array.chunks} voxels for the shape {shape}, more than a volume can have; "
            "correct its metadata",
            where,
            "too-large",
        )


def stored_chunks(array: Volume) -> np.ndarray:
    """Grid coordinates (N, axes) of the chunks (shards, where there are any) that may hold other values than 0.

    These are the stored ones. Where the store can't list them, or where missing ones aren't 0, it is the whole grid.

    Raises:
        DataError: for a stored chunk whose name doesn't fit the array's metadata, or that lies outside of its shape.
    """
    if isinstance(array, VolumeView):
        places, unit = stored_chunks(array.array), storage_unit(array.array)
        for axis, index in array.fixed:
            places = places[places[:, axis] == index // unit[axis]]
        return places[:, list(array.axes)]
    grid = [-(-size // edge) for size, edge in zip(array.shape, storage_unit(array), strict=True)]
    found = None
    if not array.fill_value and array.store.supports_listing:
        found = sync(_listed(array))
    if found is None:
        return np.stack(np.unravel_index(np.arange(np.prod(grid, dtype=np.int64)), grid), axis=-1)
    places = np.array(found, dtype=np.int64).reshape(-1, array.ndim)
    outside = places[(places >= grid).any(axis=1)]
    if len(outside):
        raise DataError(
            f"{len(outside)} of its {len(places)} chunks, such as {tuple(outside[0].tolist())}, lie outside of the "
            f"shape {array.shape} that its metadata gives; are these of another array, or another level?",
            str(array.store_path),
        )
    return places


def volume_identity(
    source: str | Path, level: int = 0, channel: int | None = None, timepoint: int | None = None
) -> dict[str, Any]:
    """Path, shape and type of a volume, and a digest of the sizes and times of all its files: plain values.

    A store that can't list its files (plain HTTP) gives the digest of an empty list: new content isn't noticed.
    Arguments and errors: see `open_volume`.
    """
    from fsspec.core import url_to_fs  # type: ignore[import-untyped]

    found = find_volume(source, level, channel, timepoint)
    store, place = url_to_fs(found.source.file[0] if found.source.file else found.source.place)
    place = place.rstrip("/")
    digest = hashlib.sha256()
    try:
        files = store.find(place, detail=True)
    except Exception:  # forbidden, or not there at all: each store has its own words
        files = {}
    for name, entry in sorted(files.items()):
        changes = [str(entry[key]) for key in _CHANGES if key in entry]
        digest.update(f"{name.removeprefix(place)}\0{entry['size']}\0{' '.join(changes)}\n".encode())
    path = f"{place}/{found.source.file[1]}".rstrip("/") if found.source.file else place
    chosen = {name: index for name in ("channel", "timepoint") if (index := getattr(found.source, name)) is not None}
    shape, dtype = list(open_volume(source, level, channel, timepoint, channels=True).shape), str(found.array.dtype)
    return {"path": path, "shape": shape, "dtype": dtype, "chunks": digest.hexdigest(), **chosen}


def storage_unit(array: Volume) -> tuple[int, ...]:
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
    expected = array.metadata.encode_chunk_key((0,) * array.ndim)
    fits = re.compile(re.escape(expected).replace("0", r"(\d+)"))
    chunks = [tuple(map(int, match.groups())) for name in names if (match := fits.fullmatch(name))]
    refuse_misnamed(array, names, fits, str(array.store_path))
    return chunks
