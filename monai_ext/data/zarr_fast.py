"""Opening sharded local Zarr arrays for reading with zarrs, a codec pipeline in Rust, where it is installed."""

from __future__ import annotations

import logging
import os
import sys
import threading
from dataclasses import replace
from functools import cache
from pathlib import Path

import zarr
from zarr.storage import LocalStore

from monai_ext.data.volume_view import Volume, VolumeView
from monai_ext.data.volumes_zarr import open_volume

logger = logging.getLogger(__name__)

_PIPELINE = "zarrs.ZarrsCodecPipeline"
_lock = threading.Lock()
# A fork copies what the threads of zarrs wait for, but not the threads: a read in the child would never end.
_forked = False


def _note_fork() -> None:
    global _forked
    _forked = "zarrs" in sys.modules


os.register_at_fork(after_in_child=_note_fork)


def open_fast(source: str | Path, *, channels: bool = False) -> Volume:
    """`open_volume`, read by zarrs where this is possible and faster: a sharded array on a local disk.

    Other arrays, also those of other users of Zarr in this process, keep Zarr's own pipeline.
    """
    volume = open_volume(source, channels=channels)
    array = volume.array if isinstance(volume, VolumeView) else volume
    if not (array.shards and isinstance(array.store, LocalStore)) or not _usable():
        return volume
    # Zarr chooses the pipeline when an array is made, by a setting of the whole process.
    with _lock:
        try:
            with zarr.config.set({"codec_pipeline.path": _PIPELINE}):
                fast = zarr.open_array(store=array.store_path, mode="r")
        except Exception as error:  # whatever it can't read, Zarr can
            logger.warning("%s: read without zarrs (%s: %s)", source, type(error).__name__, error)
            return volume
    return replace(volume, array=fast) if isinstance(volume, VolumeView) else fast


def _usable() -> bool:
    if _forked:
        logger.info("zarrs was in use when this process was forked; reading without it")
    return not _forked and _installed()


@cache
def _installed() -> bool:
    try:
        import zarrs  # noqa: F401
    except ImportError:
        logger.info("sharded Zarr arrays are read faster with zarrs: pip install 'monai-ext[fast]'")
        return False
    return True
