"""Training sets with one folder per class; labels follow the folders' names, never their order alone."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai_ext.data.walk import natural_key
from monai_ext.errors import DataError
from monai_ext.io import read_json, write_json
from monai_ext.spine.folders import patient_of, slice_files, stamp_of


def class_names(folder: str | Path) -> list[str]:
    """Names of the classes: the sub-folders with slices in them, in natural order; a label is the position.

    Args:
        folder: with one sub-folder per class.

    Raises:
        DataError: when there is no such folder, or fewer than two classes in it.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError("is not a folder; give one with a sub-folder of slices for each class", folder)
    found = [entry.name for entry in root.iterdir() if entry.is_dir() and entry.name[0] != "." and slice_files(entry)]
    if len(found) < 2:
        raise DataError(f"holds {len(found)} classes; needs a sub-folder of slices for each of two or more", folder)
    return sorted(found, key=natural_key)


def class_items(folder: str | Path, names: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """The slices of all classes.

    Args:
        folder: ``<class>/<patient>/...`` or ``<class>/<patient>_...``.
        names: the class map to follow; by default that of the folder (see `class_names`). A class of it without a
            folder has no items.

    Returns:
        Items as the package's docstring lists them.

    Raises:
        DataError: see `class_names`; for a folder whose name isn't in the class map.
    """
    found = class_names(folder)
    names = list(found if names is None else names)
    unknown = [name for name in found if name not in names]
    if unknown:
        near = difflib.get_close_matches(unknown[0], names, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(names)}"
        raise DataError(f"the class {unknown[0]!r} isn't in the class map; {hint}", Path(folder) / unknown[0])
    items = []
    for name in found:
        root = Path(folder).absolute() / name
        for path in slice_files(root):
            relative = path.relative_to(root)
            items.append(
                {
                    "case": f"{name}/{relative.with_suffix('').as_posix()}",
                    "patient": patient_of(relative),
                    "image": str(path),
                    "label": names.index(name),
                    "stamp": stamp_of(path),
                }
            )
    return items


def save_class_map(path: str | Path, names: Sequence[str]) -> Path:
    """Write ``class_map.json``: ``{"classes": [name, ...]}``.

    Args:
        path: JSON file.
        names: of the classes, in the order of the labels.

    Raises:
        WriteError: when the file can't be written.
    """
    return write_json(path, {"classes": list(names)})


def load_class_map(path: str | Path) -> list[str]:
    """Read the names of ``class_map.json`` in the order of the labels.

    Args:
        path: JSON file.

    Raises:
        DataError: when it is missing, damaged, or no list of different names.
    """
    content = read_json(path)
    names = content.get("classes") if isinstance(content, dict) else None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise DataError('is no class map; expected {"classes": [name, ...]}', path)
    if len(set(names)) != len(names):
        raise DataError(f"names a class twice: {names}", path)
    return names
