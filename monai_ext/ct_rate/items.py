"""Data items: slices, the slices of a volume together, or whole volumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from monai_ext.ct_rate.labels import LABELS, class_names
from monai_ext.ct_rate.volume import Volume
from monai_ext.data.splits import Splits
from monai_ext.errors import ConfigError, DataError

Items = list[dict[str, Any]]


def volume_items(
    splits: Mapping[str, Sequence[Volume]], classes: Sequence[str] | None = None
) -> Splits[dict[str, Any]]:
    """One item per volume, for `monai_ext.ct_rate.LoadChestCTd`.

    Args:
        splits: the volumes of each set, as `monai_ext.ct_rate.splits` returns them.
        classes: labels in the order of the network's outputs; default all of `LABELS`.

    Returns:
        The items of each set.

    Raises:
        ConfigError: for unknown classes, or volumes of which only extracted slices are known.
    """
    columns = _columns(classes)
    return Splits({part: [volume_item(volume, columns) for volume in members] for part, members in splits.items()})


def slice_items(
    splits: Mapping[str, Sequence[Volume]],
    classes: Sequence[str] | None = None,
    neighbours: bool = False,
    num_slices: int | None = None,
) -> Splits[dict[str, Any]]:
    """Items of extracted slices, for `monai_ext.ct_rate.LoadChestCTd`.

    Args:
        splits: the volumes of each set, from `monai_ext.ct_rate.extracted_slices`.
        classes: labels in the order of the network's outputs; default all of `LABELS`.
        neighbours: whether a slice has three channels: the extracted slice before it, itself, the one after it; at the
            ends of the chest the slice itself replaces the missing one.
        num_slices: None for one item per slice; else one item per volume with that many slices (some twice where fewer
            were extracted).

    Returns:
        The items of each set.

    Raises:
        ConfigError: for unknown classes, or ``num_slices`` below 1.
        DataError: for a volume without extracted slices.
    """
    columns = _columns(classes)
    return Splits(
        {
            part: [
                item
                for volume in members
                for item in (
                    _single_slices(volume, columns, neighbours)
                    if num_slices is None
                    else [_bag(volume, columns, neighbours, num_slices)]
                )
            ]
            for part, members in splits.items()
        }
    )


def volume_item(volume: Volume, columns: Sequence[int]) -> dict[str, Any]:
    """The item of one volume's file.

    Args:
        volume: with its file.
        columns: positions in `LABELS` of the labels in the item, in this order.

    Raises:
        ConfigError: for a volume of which only extracted slices are known.
    """
    if not volume.path:
        raise ConfigError("volume_items: these are extracted slices, not volumes; use slice_items")
    item = {**_shared(volume, columns), "image": volume.path}
    return {
        **item,
        "manufacturer": volume.manufacturer,
        "scanner": volume.scanner,
        **({"rescale": volume.rescale} if volume.rescale is not None else {}),
        **({"spacing": volume.spacing} if volume.spacing is not None else {}),
    }


def bag_of(slices: Sequence[Any], count: int, neighbours: bool) -> list[list[Any]]:
    """``count`` of the slices, evenly and in order, each as a list of its channels.

    Args:
        slices: of one volume, from the lowest to the highest.
        count: slices to choose, at least 1; some come twice where there are fewer.
        neighbours: see `slice_items`.

    Raises:
        ConfigError: for a count below 1.
    """
    if count < 1:
        raise ConfigError(f"num_slices must be at least 1, got {count}")
    chosen = np.rint(np.linspace(0, len(slices) - 1, count)).astype(int)
    return [_channels(slices, int(i), neighbours) for i in chosen]


def _channels(slices: Sequence[Any], i: int, neighbours: bool) -> list[Any]:
    return [slices[max(i - 1, 0)], slices[i], slices[min(i + 1, len(slices) - 1)]] if neighbours else [slices[i]]


def _single_slices(volume: Volume, columns: Sequence[int], neighbours: bool) -> Items:
    paths = _paths(volume)
    shared = _shared(volume, columns)
    return [{**shared, "image": _channels(paths, i, neighbours), "slice": z} for i, (z, _) in enumerate(volume.slices)]


def _bag(volume: Volume, columns: Sequence[int], neighbours: bool, count: int) -> dict[str, Any]:
    return {**_shared(volume, columns), "image": bag_of(_paths(volume), count, neighbours)}


def _paths(volume: Volume) -> list[str]:
    if not volume.slices:
        raise DataError(f"slice_items: volume {volume.name} has no extracted slices; run extract-slices first")
    return [path for _, path in volume.slices]


def _shared(volume: Volume, columns: Sequence[int]) -> dict[str, Any]:
    item: dict[str, Any] = {"case": volume.name, "patient": volume.patient, "stamp": list(volume.stamp)}
    if volume.reading:
        item["reading"] = volume.reading
    if volume.labels is not None:
        item["label"] = np.array([volume.labels[column] for column in columns], np.float32)
        item["patient"] = volume.patient
    return item


def _columns(classes: Sequence[str] | None) -> list[int]:
    return [LABELS.index(name) for name in class_names(classes)]
