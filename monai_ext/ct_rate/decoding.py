"""Volumes and extracted slices that can't be decoded, found before a run begins."""

from __future__ import annotations

from pathlib import Path

from monai_ext.ct_rate.chest_ct import read_chest_ct
from monai_ext.ct_rate.indexing import VolumeIndex
from monai_ext.ct_rate.slice_files import read_extracted_slices
from monai_ext.ct_rate.volume import Volume
from monai_ext.data.decoding import undecodable
from monai_ext.data.left_out import refuse_or_leave_out
from monai_ext.errors import DataError


def without_undecodable(index: VolumeIndex, memory_dir: str | Path | None = None) -> VolumeIndex:
    """The index without the volumes whose file, or one of whose extracted slices, can't be decoded.

    Args:
        index: every volume of it is decoded, unless that is remembered.
        memory_dir: see `monai_ext.data.decoding.undecodable`.

    Raises:
        DataError: when no volume is left.
        WriteError: when the memory can't be written.
    """
    volumes = {volume.path or volume.name: volume for volume in index.volumes}
    found = undecodable(
        {name: [*volume.stamp, *map(repr, volume.rescale or ())] for name, volume in volumes.items()},
        lambda name: decode(volumes[name]),
        memory_dir,
    )
    refuse_or_leave_out(list(found.values()), "skip", "on_bad_volume", "ct_rate_multilabel")
    kept = [volume for name, volume in volumes.items() if name not in found]
    if not kept:
        raise DataError(f"none of {len(volumes)} volumes can be decoded", next(iter(volumes), ""))
    return VolumeIndex(kept, [*index.problems, *found.values()])


def decode(volume: Volume) -> None:
    """Read a volume's file, or its extracted slices, as training does.

    Args:
        volume: of an index.

    Raises:
        DataError: naming the file that can't be read.
    """
    if volume.path:
        read_chest_ct(volume.path, volume.rescale)
    else:
        read_extracted_slices([path for _, path in volume.slices])
