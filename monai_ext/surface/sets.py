"""Sets of volumes: an image, its targets, and the reference label that selects the training patches."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_ext.data.left_out import Found
from monai_ext.data.volumes_zarr import array_source, channel_axis, open_volume
from monai_ext.data.zarr_source import ZarrSource
from monai_ext.errors import ConfigError, DataError
from monai_ext.surface.folders import HOW_TO_GET, SUFFIX, arrays_in, not_in_sets, volume_folders
from monai_ext.surface.unpacking import unpacked
from monai_ext.targets import target_kind

Targets = Mapping[str, Mapping[str, Any]]
# Keys of a set and of an item that no target may have.
RESERVED = ("input", "ref_label", "image", "case", "start_pos", "volume_idx", "index")


def volume_sets(
    dataset_dir: str | Path,
    targets: Targets,
    patch_size: Sequence[int],
    volumes: Sequence[Mapping[str, str]] | None = None,
    level: int = 0,
    channel: int | None = None,
    timepoint: int | None = None,
    unpack_dir: str | Path | None = None,
) -> Found[dict[str, str]]:
    """The training sets: paths or URLs of plain arrays ``{"input": ..., <target>: ..., "ref_label": ...}``.

    All arrays are opened and compared before a run starts. What lies in ``dataset_dir`` and isn't used is in the list's
    ``left_out``.

    Args:
        dataset_dir: base of relative paths.
        targets: name → ``channels`` and ``activation`` ("none", "sigmoid" or "softmax"), which determine the shape of
            the target's array: (Z, Y, X) for one channel and for the class numbers of "softmax", else (Z, Y, X, C) or
            (C, Z, Y, X).
        patch_size: voxels along Z, Y, X.
        volumes: ``{"input": ..., <target>: ..., "ref_label": ...}`` each, paths or fsspec URLs. ``ref_label``, by which
            patches are found, is the name of one of the targets or a path or URL of its own; default the first target.
            ``{"image": ..., "label": ...}`` is an input with the first target, the only one.
            Without ``volumes``: ``dataset_dir`` itself and each of its folders that holds ``input.zarr``, with
            ``<target>.zarr`` beside it, and ``ref_label.zarr`` where there is one.
        level: resolution level of OME-Zarr images, 0 the finest; not used for plain arrays.
        channel: of inputs that have several, from 0; a path that ends in ``#channel=1`` chooses for itself.
        timepoint: of volumes that have several, from 0; or ``#timepoint=1``.
        unpack_dir: folder that gets compressed NIfTI files of ``{"image", "label"}`` in a form that can be read in
            parts, see `monai_ext.surface.unpacking.unpacked`; None leaves them.

    Raises:
        ConfigError: for keys of ``volumes`` that don't agree with ``targets``.
        DataError: when no set is found; for an array that can't be opened, is smaller than the patch, or doesn't fit
            the others of its set.
    """
    if not targets:
        raise ConfigError("volume_sets: targets is empty; define at least one, such as sheet")
    for name in set(targets) & set(RESERVED):
        raise ConfigError(f"volume_sets: a target can't be called {name!r}; choose another name")
    if volumes is None:
        given = [_found(folder, targets) for folder in volume_folders(dataset_dir)]
    else:
        pairs = [_of_pair(entry, targets, dataset_dir, unpack_dir) for entry in volumes]
        given = [_listed(entry, number, targets) for number, entry in enumerate(pairs)]
    if not given:
        raise DataError(f"no input{SUFFIX} here or in a folder below; {HOW_TO_GET}", dataset_dir)
    unused = [] if volumes is not None else not_in_sets(dataset_dir, ("input", "ref_label", *targets))
    sets: Found[dict[str, str]] = Found(unused=unused)
    for entry in given:
        places = {
            key: array_source(located(place, dataset_dir), level, channel if key == "input" else None, timepoint)
            for key, place in entry.items()
        }
        check_set(places, targets, patch_size)
        sets.append(places)
    return sets


def located(place: str | Path, dataset_dir: str | Path) -> str:
    """A URL as it is, a relative path below ``dataset_dir``."""
    text = str(place)
    if "://" in text:
        return text
    return f"{str(dataset_dir).rstrip('/')}/{text}" if "://" in str(dataset_dir) else str(Path(dataset_dir, text))


def check_set(places: Mapping[str, str], targets: Targets, patch_size: Sequence[int]) -> None:
    """Refuse a set whose arrays don't fit each other, ``targets`` or the patch.

    Args:
        places: paths or URLs of ``input``, of each target, and of ``ref_label``.
        targets: settings by name.
        patch_size: voxels along Z, Y, X.

    Raises:
        ConfigError: for a patch size that isn't three positive integers.
        DataError: naming the array that can't be read, has another shape, type or number of channels, or is smaller
            than a patch.
    """
    volume = open_volume(places["input"])
    shape = volume.shape
    if len(patch_size) != 3 or any(edge < 1 for edge in patch_size):
        raise ConfigError(f"patch_size must be three positive integers (Z, Y, X), got {patch_size!r}")
    if any(length < edge for length, edge in zip(shape, patch_size, strict=True)):
        raise DataError(
            f"the volume, {shape} voxels along Z, Y, X, is smaller than patch_size {tuple(patch_size)}; take a smaller "
            "patch",
            places["input"],
        )
    check_type(volume.dtype, "iuf", places["input"])
    for name, settings in targets.items():
        array = open_volume(places[name], channels=True)
        try:
            axis = channel_axis(array.shape, shape)
        except DataError as error:
            raise DataError(f"target {name!r}: {error}, the shape of {places['input']}", places[name]) from None
        classes = target_kind(settings) == "classes"
        channels, expected = 1 if axis is None else array.shape[axis], 1 if classes else settings["channels"]
        if channels != expected:
            raise DataError(
                f"target {name!r} has {channels} channels (shape {array.shape}), expected {expected}"
                + (" with class numbers, which that target has" if classes else "; correct targets or the data"),
                places[name],
            )
    found = ZarrSource.of(places["ref_label"])
    label = open_volume(places["ref_label"], channels=found.channel is None).shape
    if label not in (shape, (1, *shape), (*shape, 1)):
        raise DataError(
            f"ref_label, by which patches are found, must have the input's shape {shape} and one channel, got {label}; "
            "name another target or label, or one of its channels by `#channel=0` behind its path",
            places["ref_label"],
        )


def _found(folder: Path, targets: Targets) -> dict[str, str]:
    places = {name: str(path.absolute()) for name, path in arrays_in(folder).items()}
    for name in targets:
        if name not in places:
            raise DataError(f"no {name}{SUFFIX} beside input{SUFFIX}; add it, or drop {name!r} from targets", folder)
    label = places.get("ref_label", places[next(iter(targets))])
    return {**{key: places[key] for key in ("input", *targets)}, "ref_label": label}


def _of_pair(
    entry: Mapping[str, Any], targets: Targets, dataset_dir: str | Path, unpack_dir: str | Path | None
) -> Mapping[str, str]:
    """A pair of image and label as a set; any other entry as it is."""
    if not {"image", "label"} <= entry.keys():
        return entry
    places = (located(entry[key], dataset_dir) for key in ("image", "label"))
    image, label = (place if unpack_dir is None else unpacked(place, unpack_dir) for place in places)
    return {"input": image, next(iter(targets)): label}


def _listed(entry: Mapping[str, str], number: int, targets: Targets) -> dict[str, str]:
    known = ["input", *targets, "ref_label"]
    for key in entry:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"define it there, or drop it; known: {', '.join(known)}"
            raise ConfigError(f"volumes[{number}]: {key!r} isn't defined under targets; {hint}")
    for key in known[:-1]:
        if key not in entry:
            raise ConfigError(f"volumes[{number}]: {key!r} is missing; give its path or URL, or drop it from targets")
    label = entry.get("ref_label", next(iter(targets)))
    return {**entry, "ref_label": entry[label] if label in targets else label}


def check_type(dtype: Any, kinds: str, place: str) -> None:
    """Refuse values that are neither integers nor floats.

    Args:
        dtype: of the array.
        kinds: allowed kinds, in numpy's letters, such as ``"iuf"``.
        place: path or URL, for the error message.

    Raises:
        DataError: for another kind of type.
    """
    if dtype.kind not in kinds:
        raise DataError(f"holds values of type {dtype}; integers or floats are needed", place)
