"""Folders of sets: which of them hold an input, and what in them isn't used."""

from __future__ import annotations

import os
from collections.abc import Container
from pathlib import Path

from monai_ext.data.left_out import not_used
from monai_ext.data.problems import Problem
from monai_ext.data.walk import entries, natural_key, stem_of, suffix_of
from monai_ext.errors import DataError

SUFFIX = ".zarr"
# Suffixes of arrays, a folder before a zipped one.
SUFFIXES = (SUFFIX, f"{SUFFIX}.zip")
HOW_TO_GET = (
    "to try things out, make demo data with `python -m monai_ext demo-data surface_unet --output DIR` and pass "
    "`--dataset_dir DIR`"
)


def arrays_in(folder: Path) -> dict[str, Path]:
    """Name → path of each ``<name>.zarr`` or ``<name>.zarr.zip`` in a folder, whatever the case of its suffix.

    Args:
        folder: any folder.

    Raises:
        DataError: for two that differ in the case of their suffix only.
    """
    found: dict[str, Path] = {}
    for path in sorted(entries(folder), key=lambda path: suffix_of(path, SUFFIXES) != SUFFIX):
        name = stem_of(path, SUFFIXES)
        if name is None:
            continue
        other = found.setdefault(name, path)
        if other is not path and suffix_of(other, SUFFIXES) == suffix_of(path, SUFFIXES):
            raise DataError(f"is there as {path.name}, too; keep one of them", other, "copies")
    return found


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
        used = {path for name, path in arrays_in(folder).items() if names is None or name in names}
        others += [entry for entry in below if entry not in used]
    return [*links, *not_used(others, _why_not, root)]


def _real_folders(root: Path) -> dict[str, Path]:
    """Real path → folder with an input, its own name before that of a link."""
    own_first = sorted(entries(root), key=lambda path: path.is_symlink())
    found: dict[str, Path] = {}
    for folder in (root, *own_first):
        if folder.is_dir() and "input" in arrays_in(folder):
            found.setdefault(os.path.realpath(folder), folder)
    order = {path: (path != root, natural_key(path.name)) for path in found.values()}
    return dict(sorted(found.items(), key=lambda pair: order[pair[1]]))


def _why_not(path: Path) -> str:
    suffix = suffix_of(path, (*SUFFIXES, ".n5", ".zip"))
    if suffix in SUFFIXES:
        return "a Zarr array that isn't asked for"
    if suffix is not None:
        return f"not read by this name: a zipped array ends in {SUFFIX}.zip, and N5 has to be converted to Zarr"
    return f"a folder without input{SUFFIX}" if path.is_dir() else "no Zarr array"
