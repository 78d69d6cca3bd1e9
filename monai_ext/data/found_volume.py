"""The array behind a path or URL, and what the OME-Zarr image that it belongs to says of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from posixpath import normpath
from typing import Any, NamedTuple

import zarr

from monai_ext.data.ome_image import AXES, OmeImage
from monai_ext.data.volume_view import check_axes
from monai_ext.data.zarr_source import ZarrSource, open_node
from monai_ext.errors import DataError

# Other names of `AXES`.
_WORDS = {"time": "t", "channel": "c", "channels": "c", "depth": "z", "height": "y", "width": "x"}
# Steps of a level's path below its image, as "scale/0"; each is looked for, and at a URL is a request.
_DEEPEST_LEVEL = 3


class Space(NamedTuple):
    """Size, position and unit of the voxels along Z, Y, X."""

    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    translation: tuple[float, float, float] = (0.0, 0.0, 0.0)
    units: tuple[str | None, str | None, str | None] = (None, None, None)


def volume_space(source: str | Path, level: int = 0) -> Space:
    """The voxel space of a volume, by the names of its axes; that of size 1 where it isn't given.

    Args:
        source: see `open_volume`; an array below an OME-Zarr group has what that says of it.
        level: see `open_volume`.

    Raises:
        DataError: see `open_volume`.
    """
    found = find_volume(source, level)
    image, number = found.image, found.level
    if image is None:
        return Space()
    names = found.axes or AXES[-found.array.ndim :]
    check_axes(names, found.array.shape, found.source.place)
    places = [names.index(name) for name in "zyx"]
    scale, translation = image.scales[number], image.translations[number]

    def chosen(values: Sequence[Any], default: Any) -> Any:
        # some write the last three axes only
        shift = len(values) - len(names)
        return tuple(values[place + shift] for place in places) if values and min(places) + shift >= 0 else default

    return Space(chosen(scale, (1.0,) * 3), chosen(translation, (0.0,) * 3), chosen(image.units, (None,) * 3))


class FoundVolume(NamedTuple):
    """An array, its place with what is chosen from it, the names of its axes, and the image that it is a level of."""

    source: ZarrSource
    array: zarr.Array
    axes: tuple[str, ...]
    image: OmeImage | None
    level: int


def find_volume(
    source: str | Path,
    level: int = 0,
    channel: int | None = None,
    timepoint: int | None = None,
    *,
    level_of_arrays: bool = False,
) -> FoundVolume:
    """The array behind a source; ``level_of_arrays`` accepts any level for a single array, which has none.

    Other arguments: see `monai_ext.data.volumes_zarr.open_volume`.

    Raises:
        DataError: naming ``source``, see there.
    """
    place = ZarrSource.of(source, channel, timepoint)
    node = open_node(place)
    if isinstance(node, zarr.Group):
        image = OmeImage.of(node, place.place)
        if image is None:
            raise DataError(
                f"is a group without OME-Zarr levels; add to the path one of its images or arrays: {_below(node)}",
                place.place,
            )
        if not 0 <= level < len(image.paths):
            raise DataError(f"has the levels 0 to {len(image.paths) - 1}; there is no level {level}", place.place)
        array = open_node(place.below(image.paths[level]))
        if not isinstance(array, zarr.Array):
            raise DataError(f"names {image.paths[level]!r} as level {level}, but there is no such array", place.place)
        return FoundVolume(place.below(image.paths[level]), array, _names(array, image, place.place), image, level)
    if level and not level_of_arrays:
        raise DataError(f"is a single array; there is no level {level}, only 0", place.place)
    image, level = _image_above(node, place)
    return FoundVolume(place, node, _names(node, image, place.place), image, level)


def _below(group: zarr.Group) -> list[str]:
    try:
        return sorted(name for name, _ in group.members())
    except Exception:  # what lies there may be damaged, too
        return []


def _image_above(array: zarr.Array, source: ZarrSource) -> tuple[OmeImage | None, int]:
    """The image that an array is a level of, and the level: in its own attributes, or in those of a group above."""
    own = OmeImage.of(array, source.place)
    if own is not None:
        return own, 0
    above, inside = (source.place if "://" in source.place else str(Path(source.place).absolute())).rstrip("/"), ""
    for _ in range(_DEEPEST_LEVEL):
        above, _, name = above.rpartition("/")
        inside = f"{name}/{inside}".rstrip("/")
        if not above or above.endswith((":/", ":")):
            break
        try:
            image = OmeImage.of(open_node(above), above)
        except DataError:  # most arrays are in no group
            continue
        if image is not None:
            paths = [normpath(path) for path in image.paths]
            return (image, paths.index(inside)) if inside in paths else (None, 0)
    return None, 0


def _names(array: zarr.Array, image: OmeImage | None, where: str) -> tuple[str, ...]:
    """Names of an array's axes, those of OME-Zarr; none where they don't say more than the usual order.

    Raises:
        DataError: for names of which only some are known, in another order.
    """
    if image is not None and image.axes:
        if len(image.axes) != array.ndim:
            raise DataError(f"names the axes {', '.join(image.axes)}, but has the shape {array.shape}", where)
        return image.axes
    own = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    words = [str(name).lower() for name in own] if isinstance(own, (list, tuple)) else []
    names = tuple(_WORDS.get(word, word) for word in words)
    unknown = set(names) - set(AXES)
    if len(names) != array.ndim:
        return ()
    if not unknown:
        return names
    if set("zyx") <= set(names) and len(unknown) == 1 and "c" not in names:
        return tuple("c" if name in unknown else name for name in names)
    if any(name in AXES and name != usual for name, usual in zip(names, AXES[-array.ndim :], strict=False)):
        check_axes(names, array.shape, where)
    return ()
