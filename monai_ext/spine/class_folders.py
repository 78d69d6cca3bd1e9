"""Training sets with one folder per class; labels follow the folders' names, never their order alone."""

from __future__ import annotations

import difflib
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai_ext.data.left_out import Found, not_used, refuse
from monai_ext.data.problems import Problem
from monai_ext.data.stamps import stamps_of
from monai_ext.data.walk import natural_key, without_copies
from monai_ext.errors import DataError
from monai_ext.io import read_json, write_json
from monai_ext.spine.folders import READ, TrainingFiles, is_slice, patient_of, training_files
from monai_ext.spine.volume_slices import image_slices

# First folders of RadImageNet.
_MODALITIES = ("CT", "MR", "US")


def class_names(folder: str | Path) -> list[str]:
    """Names of the classes: the sub-folders with slices in them, in natural order; a label is the position.

    RadImageNet has folders within folders, such as ``MR/knee/acl``: these paths are its classes.

    Args:
        folder: with one sub-folder per class.

    Raises:
        DataError: when there is no such folder, or fewer than two classes in it.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError("is not a folder; give one with a sub-folder of slices for each class", folder)
    found = _by_class(root)[0]
    if len(found) < 2:
        raise DataError(f"holds {len(found)} classes; needs a sub-folder of slices for each of two or more", folder)
    return sorted(found, key=natural_key)


def class_items(folder: str | Path, names: Sequence[str] | None = None) -> Found[dict[str, Any]]:
    """The slices of all classes; of a volume all its slices.

    Args:
        folder: ``<class>/<patient>/...`` or ``<class>/<patient>_...``.
        names: the class map to follow; by default that of the folder (see `class_names`). A class of it without a
            folder has no items.

    Returns:
        Items as the package's docstring lists them; files that aren't used are in their ``left_out``.

    Raises:
        DataError: see `class_names`; for a folder whose name isn't in the class map, one slice in two files, or one
            file in two classes.
    """
    found = class_names(folder)
    slices, unused = _by_class(Path(folder))
    names = list(found if names is None else names)
    unknown = [name for name in found if name not in names]
    if unknown:
        near = difflib.get_close_matches(unknown[0], names, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(names)}"
        raise DataError(f"the class {unknown[0]!r} isn't in the class map; {hint}", Path(folder) / unknown[0])
    items: Found[dict[str, Any]] = Found(unused=unused)
    for name in found:
        root = Path(os.path.abspath(folder)) / name
        below = TrainingFiles(root, slices[name], [])
        for path in below.images:
            case = below.case(path)
            item = {
                "case": f"{name}/{case}",
                "patient": patient_of(path.relative_to(root) if is_slice(path) else Path(case)),
                "image": str(path),
                "label": names.index(name),
                "stamp": stamps_of(path),
            }
            if is_slice(path):
                items.append(item)
            else:
                count = len(image_slices(path))
                # as files of these names the slices would be of the same class and patient
                between = "/" if "/" in case else "_"
                items += [{**item, "case": f"{item['case']}{between}{n:03d}", "slice": n} for n in range(count)]
    return items


def _class_of(parts: Sequence[str]) -> str:
    """The first folder; in RadImageNet (below a modality) all folders down to the slice."""
    nested = any(part.upper() in _MODALITIES for part in parts[:2]) and len(parts) > 2
    return "/".join(parts[:-1]) if nested else parts[0]


def _by_class(folder: Path) -> tuple[dict[str, list[Path]], list[Problem]]:
    """Class → its slices and volumes, and notes on all other files."""
    root = Path(os.path.abspath(folder))
    found = training_files(root)
    single, copies = without_copies(found.images, READ)
    refuse([*copies, *found.problems])
    for problem in found.problems:
        for other in problem.files if problem.code == "same-file" else ():
            mine, its = (_class_of(Path(path).relative_to(root).parts) for path in (problem.path, other))
            if mine != its:
                raise DataError(f"{problem.message}, in the class {its!r}; remove one", problem.path, "copies")
    slices: dict[str, list[Path]] = defaultdict(list)
    loose = []
    for path in map(Path, single):
        if path.parent == root:
            loose.append(path)
        else:
            slices[_class_of(path.relative_to(root).parts)].append(path)
    return slices, [*found.problems, *not_used(loose, lambda _: "in no folder of a class", root)]


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
