"""The store that a prediction is written to: an OME-Zarr image for each target, ``<folder>/<target>.zarr``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numcodecs import Zstd  # type: ignore[import-untyped]
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.core.metadata import ArrayV2Metadata
from zarr.errors import ContainsArrayError, ContainsGroupError

from monai_ext.errors import ConfigError, DataError, WriteError
from monai_ext.inferers.streaming.folder import OutputFolder
from monai_ext.inferers.streaming.geometry import Region, Size, VoxelSpace, chunks_of
from monai_ext.inferers.streaming.targets import StoredTarget
from monai_ext.system_errors import writing

_ZSTD_LEVEL = 3
# Zarr format -> version of OME-Zarr
_VERSIONS = {2: "0.4", 3: "0.5"}


class OutputStore:
    """Arrays "0" (full size), "1", ... of each target, with checksums.

    Chunks of zeros within a written block are stored like others (compressed they are a hundred bytes), so that a
    missing chunk is always damage. Only blocks that are empty as a whole have no chunks; they read as 0.

    Args:
        folder: path or URL that all processes share.
        targets: the stored targets by name.
        shape: voxels along Z, Y, X.
        chunk_size: voxels of a chunk.
        shard_size: voxels of a shard, whole chunks; None for none.
        zarr_format: 3 (OME-Zarr 0.5), or 2 (0.4), which has no shards.

    Raises:
        ConfigError: for sizes that don't fit together, or an unknown format.
    """

    def __init__(
        self,
        folder: str | Path | OutputFolder,
        targets: Mapping[str, StoredTarget],
        shape: Size,
        chunk_size: Size,
        shard_size: Size | None = None,
        zarr_format: int = 3,
    ) -> None:
        if zarr_format not in (2, 3):
            raise ConfigError(f"zarr_format must be 2 or 3, got {zarr_format!r}")
        if shard_size is not None and zarr_format == 2:
            raise ConfigError("shard_size needs zarr_format 3")
        if min(chunk_size) < 1 or any(a % b for a, b in zip(shard_size or chunk_size, chunk_size, strict=True)):
            raise ConfigError(f"shard_size must be a multiple of chunk_size {list(chunk_size)}, got {shard_size}")
        self.folder = OutputFolder.of(folder)
        self.targets = dict(targets)
        self.shape, self.chunk_size, self.shard_size, self.zarr_format = shape, chunk_size, shard_size, zarr_format
        self._arrays: dict[tuple[str, int], zarr.Array] = {}

    @property
    def unit(self) -> Size:
        """Voxels of the storage unit: a shard, or a chunk."""
        return self.shard_size or self.chunk_size

    def image(self, name: str) -> str:
        """Path or URL of a target's image."""
        return f"{self.folder}/{name}.zarr"

    def is_stored(self, name: str, key: str) -> bool:
        """Whether there is this chunk of a target's image."""
        return self.folder.exists(f"{name}.zarr/{key}")

    def existing(self) -> list[str]:
        """The targets' images, or whatever else has their place."""
        files = ("zarr.json", ".zgroup", ".zarray")
        return [self.image(name) for name in self.targets if any(self.is_stored(name, file) for file in files)]

    def create(self, space: VoxelSpace) -> None:
        """Make the images with their level 0; existing ones stay.

        Raises:
            WriteError: when they can't be written.
        """
        for name, target in self.targets.items():
            with _writing(self.image(name)), contextlib.suppress(ContainsGroupError):
                attributes = image_attributes(name, target.axes, space, 1, self.zarr_format)
                zarr.create_group(self._node(name), zarr_format=self._format, attributes=attributes)
            self.create_level(name, 0)

    def create_level(self, name: str, level: int) -> None:
        """Make the array of a level; one that is there stays."""
        target = self.targets[name]
        channels = (target.channels,) * (len(target.axes) - 3)
        options: dict[str, Any] = {"compressors": Zstd(level=_ZSTD_LEVEL)}
        options["chunk_key_encoding"] = {"name": "v2", "separator": "/"}
        if self.zarr_format == 3:
            # crc32c covers every byte; zstd's own checksum leaves its header out
            options = {"compressors": [ZstdCodec(level=_ZSTD_LEVEL), Crc32cCodec()], "dimension_names": target.axes}
        with _writing(self.image(name)), contextlib.suppress(ContainsArrayError):
            zarr.create_array(
                self._node(name, level),
                shape=(*channels, *self.level_shape(level)),
                chunks=(*channels, *self.chunk_size),
                shards=None if self.shard_size is None else (*channels, *self.shard_size),
                dtype=target.dtype,
                fill_value=0,
                zarr_format=self._format,
                **options,
            )

    def level_shape(self, level: int) -> Size:
        """Voxels of a level along Z, Y, X."""
        z, y, x = (-(-size // 2**level) for size in self.shape)
        return z, y, x

    def write(self, name: str, region: Region, values: np.ndarray, level: int = 0) -> list[str]:
        """Write whole chunks, and wait until they are on the disk.

        Returns:
            The keys of the chunks, relative to the target's image.

        Raises:
            WriteError: naming the image, when they can't be written.
        """
        keys = self.keys(name, region, level)
        with _writing(self.image(name)):
            for key in keys if self.shard_size else ():
                # A shard at the volume's end would be merged with the old one, which may be damaged.
                self.folder.remove(f"{name}.zarr/{key}")
            self._array(name, level)[(..., *region)] = values
            for key in keys:
                self.folder.flush(f"{name}.zarr/{key}")
        return keys

    def read(self, name: str, region: Region, level: int = 0) -> np.ndarray:
        """Stored values of a region.

        Raises:
            DataError: naming the image and the region, when a chunk is damaged.
        """
        try:
            return np.asarray(self._array(name, level)[(..., *region)])
        except Exception as error:  # each codec has its own
            voxels = ", ".join(f"{part.start}:{part.stop}" for part in region)
            raise DataError(
                f"level {level}, region [{voxels}] is damaged ({type(error).__name__}: {error})", self.image(name)
            ) from error

    def keys(self, name: str, region: Region, level: int = 0) -> list[str]:
        """Keys of a region's chunks (of its shards, where there are any), relative to the target's image."""
        encode = self._array(name, level).metadata.encode_chunk_key
        channels = (0,) * (len(self.targets[name].axes) - 3)
        return [f"{level}/{encode((*channels, *place))}" for place in chunks_of(region, self.unit)]

    def set_levels(self, levels: int, space: VoxelSpace) -> None:
        """Write the list of levels for viewers."""
        for name, target in self.targets.items():
            with _writing(self.image(name)):
                group = zarr.open_group(self._node(name), mode="r+")
                group.attrs.put(image_attributes(name, target.axes, space, levels, self.zarr_format))

    def _node(self, name: str, level: int | None = None) -> Any:
        return self.folder.node(f"{name}.zarr" if level is None else f"{name}.zarr/{level}")

    @property
    def _format(self) -> Any:
        return self.zarr_format

    def _array(self, name: str, level: int) -> zarr.Array:
        if (name, level) not in self._arrays:
            array = zarr.open_array(self._node(name, level), mode="r+")
            if isinstance(array.metadata, ArrayV2Metadata):
                # Every decoder compares the checksum in a frame. The metadata don't name it: tensorstore and older
                # numcodecs refuse a key that they don't know.
                metadata = replace(array.metadata, compressor=Zstd(level=_ZSTD_LEVEL, checksum=True))
                array = zarr.Array(zarr.AsyncArray(metadata=metadata, store_path=array.store_path))
            self._arrays[name, level] = array.with_config({"write_empty_chunks": True})
        return self._arrays[name, level]


def image_attributes(
    name: str, axes: Sequence[str], space: VoxelSpace, levels: int, zarr_format: int
) -> dict[str, Any]:
    """Attributes of the group of an image whose levels are the arrays "0", "1", ...

    Args:
        name: name of the image.
        axes: names of the array's axes, ("z", "y", "x") or with "c" in front.
        space: voxel space of level 0.
        levels: number of levels; each halves the size.
        zarr_format: 2 or 3.
    """
    channels = len(axes) - 3
    version = _VERSIONS[zarr_format]
    image: dict[str, Any] = {
        "name": name,
        "axes": [{"name": "c", "type": "channel"}] * channels
        + [
            {"name": axis, "type": "space", **({"unit": unit} if unit else {})}
            for axis, unit in zip(axes[channels:], space.units, strict=True)
        ],
        "datasets": [
            {"path": str(level), "coordinateTransformations": _transformations(space.level(level), channels)}
            for level in range(levels)
        ],
    }
    if zarr_format == 2:
        return {"multiscales": [{"version": version, **image}]}
    return {"ome": {"version": version, "multiscales": [image]}}


def _transformations(space: VoxelSpace, channels: int) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = [{"type": "scale", "scale": [1.0] * channels + list(space.scale)}]
    if any(space.translation):
        steps.append({"type": "translation", "translation": [0.0] * channels + list(space.translation)})
    return steps


@contextlib.contextmanager
def _writing(image: str) -> Iterator[None]:
    try:
        with writing(image):
            yield
    except WriteError as error:
        raise WriteError(f"{error}; then start again: finished blocks are kept") from error
    except (ContainsArrayError, ContainsGroupError):
        raise
    except Exception as error:
        if not isinstance(error, OSError) and "://" not in image:  # each object store has its own
            raise
        raise WriteError(f"could not write {image}: {error}; start again: finished blocks are kept") from error
