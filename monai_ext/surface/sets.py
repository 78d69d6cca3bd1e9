"""Sets of volumes: an image, its targets, and the reference label that selects the training patches."""

from __future__ import annotations

import difflib
import os
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_ext.data.left_out import Found, not_used
from monai_ext.data.problems import Problem
from monai_ext.data.volumes_zarr import array_source, channel_axis, open_volume
from monai_ext.data.walk import entries, natural_key
from monai_ext.errors import ConfigError, DataError

Targets = Mapping[str, Mapping[str, Any]]
SUFFIX = ".zarr"
HOW_TO_GET = (
    "to try things out, make demo data with `python -m monai_ext demo-data surface_unet --output DIR` and pass "
    "`--dataset_dir DIR`"
)
# Keys of a set and of an item that no target may have.
RESERVED = ("input", "ref_label", "image", "case", "start_pos", "volume_idx", "index")


def volume_sets(
    dataset_dir: str | Path,
    targets: Targets,
    patch_size: Sequence[int],
    volumes: Sequence[Mapping[str, str]] | None = None,
    level: int = 0,
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
            Without ``volumes``: ``dataset_dir`` itself and each of its folders that holds ``input.zarr``, with
            ``<target>.zarr`` beside it, and ``ref_label.zarr`` where there is one.
        level: resolution level of OME-Zarr images, 0 the finest; not used for plain arrays.

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
        given = [_listed(entry, number, targets) for number, entry in enumerate(volumes)]
    if not given:
        raise DataError(f"no input{SUFFIX} here or in a folder below; {HOW_TO_GET}", dataset_dir)
    unused = [] if volumes is not None else not_in_sets(dataset_dir, ("input", "ref_label", *targets))
    sets: Found[dict[str, str]] = Found(unused=unused)
    for entry in given:
        places = {key: array_source(located(place, dataset_dir), level) for key, place in entry.items()}
        check_set(places, targets, patch_size)
        sets.append(places)
    return sets


def volume_folders(dataset_dir: str | Path) -> list[Path]:
    """``dataset_dir`` and its direct sub-folders, as far as they hold ``input.zarr``, each real one once; in natural
    order.

    Args:
        dataset_dir: folder of one volume or of several.

    Raises:
        DataError: when there is no such folder.
    """
    root = Path(dataset_dir)
    if not root.is_dir():
        raise DataError(f"no such folder; {HOW_TO_GET}", dataset_dir)
    return list(_real_folders(root).values())


def array_in(folder: Path, name: str) -> Path | None:
    """The array ``<name>.zarr`` of a folder, whatever the case of its suffix; None without one.

    Args:
        folder: that holds it, if there is one.
        name: without suffix.

    Raises:
        DataError: for two that differ in the case only.
    """
    if is_array(folder):  # whose chunks may be very many
        return None
    found = [path for path in entries(folder) if path.stem == name and is_array(path)]
    if len(found) > 1:
        raise DataError(f"is there as {found[1].name}, too; keep one of them", found[0], "copies")
    return found[0] if found else None


def is_array(path: Path) -> bool:
    """Whether a path has the suffix of Zarr arrays, in any case."""
    return path.suffix.lower() == SUFFIX


def not_in_sets(dataset_dir: str | Path, names: Container[str] | None = None) -> list[Problem]:
    """Notes on what lies in a folder of sets and isn't used.

    Args:
        dataset_dir: see `volume_folders`.
        names: of the arrays that are used; None for all.
    """
    root = Path(dataset_dir)
    folders = _real_folders(root)
    links = [
        Problem(
            str(path),
            f"is another name of {folders[os.path.realpath(path)]}, which is read once",
            "note",
            "same-file",
            (str(folders[os.path.realpath(path)]),),
        )
        for path in entries(root)
        if os.path.realpath(path) in folders and path not in folders.values()
    ]
    others = [] if root in folders.values() else [e for e in entries(root) if os.path.realpath(e) not in folders]
    for folder in folders.values():
        below = [entry for entry in entries(folder) if os.path.realpath(entry) not in folders]
        others += [e for e in below if not is_array(e) or not (names is None or e.stem in names)]
    return [*links, *not_used(others, _why_not, root)]


def _real_folders(root: Path) -> dict[str, Path]:
    """Real path → folder with an input, its own name before that of a link."""
    own_first = sorted(entries(root), key=lambda path: path.is_symlink())
    found: dict[str, Path] = {}
    for folder in (root, *own_first):
        if folder.is_dir() and array_in(folder, "input") is not None:
            found.setdefault(os.path.realpath(folder), folder)
    order = {path: (path != root, natural_key(path.name)) for path in found.values()}
    return dict(sorted(found.items(), key=lambda pair: order[pair[1]]))


def _why_not(path: Path) -> str:
    if is_array(path):
        return "a Zarr array that isn't asked for"
    return f"a folder without input{SUFFIX}" if path.is_dir() else "no Zarr array"


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
    if len(shape) != 3:
        raise DataError(f"the input must have three axes (Z, Y, X), got the shape {shape}", places["input"])
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
        array = open_volume(places[name])
        check_type(array.dtype, "biuf", places[name])
        try:
            axis = channel_axis(array.shape, shape)
        except DataError as error:
            raise DataError(f"target {name!r}: {error}, the shape of {places['input']}", places[name]) from None
        softmax = settings.get("activation") == "softmax"
        channels, expected = 1 if axis is None else array.shape[axis], 1 if softmax else settings["channels"]
        if channels != expected:
            raise DataError(
                f"target {name!r} has {channels} channels (shape {array.shape}), expected {expected}"
                + (" with class numbers, as the activation is softmax" if softmax else "; correct targets or the data"),
                places[name],
            )
    label = open_volume(places["ref_label"])
    if label.shape != shape:
        raise DataError(
            f"ref_label, by which patches are found, must have the input's shape {shape}, got {label.shape}; name "
            "another target or label",
            places["ref_label"],
        )


def _found(folder: Path, targets: Targets) -> dict[str, str]:
    arrays = {key: array_in(folder.absolute(), key) for key in ("input", *targets, "ref_label")}
    for name in targets:
        if arrays[name] is None:
            raise DataError(f"no {name}{SUFFIX} beside input{SUFFIX}; add it, or drop {name!r} from targets", folder)
    label = arrays["ref_label"] or arrays[next(iter(targets))]
    return {key: str(place) for key, place in {**arrays, "ref_label": label}.items()}


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
