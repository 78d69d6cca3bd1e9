"""Training sets of images and masks in two folders."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai_ext.data.left_out import Found
from monai_ext.data.problems import Problem
from monai_ext.errors import DataError
from monai_ext.spine.folders import patient_of, slice_walk, stamp_of
from monai_ext.spine.slices import SLICE_SUFFIXES


def image_mask_items(folder: str | Path) -> Found[dict[str, Any]]:
    """Slices with their masks, which have the same path below ``masks`` as the image below ``images``.

    Args:
        folder: ``images/<patient>/...`` or ``images/<patient>_...``, and ``masks``; suffixes may differ.

    Returns:
        Items as the package's docstring lists them; files that aren't used are in their ``left_out``.

    Raises:
        DataError: when there is no image; for an image without a mask, a mask without an image, or two files with the
            same name.
    """
    images, unused = _by_case(Path(folder) / "images")
    masks, others = _by_case(Path(folder) / "masks", SLICE_SUFFIXES)
    # An image that is another name of one that is read has its mask there.
    linked = [_case(Path(one.path), Path(folder) / "images") for one in unused if one.code == "same-file"]
    masks = {case: path for case, path in masks.items() if case in images or case not in linked}
    if not images:
        raise DataError("holds no PNG, JPEG or TIFF files", Path(folder) / "images")
    for case in images:
        if case not in masks:
            raise DataError(
                f"has no mask of that name in {Path(folder) / 'masks'}; add one (all 0 if empty)", images[case]
            )
    for case in masks:
        if case not in images:
            raise DataError(f"has no image of that name in {Path(folder) / 'images'}; remove it", masks[case])
    items = (
        {
            "case": case,
            "patient": patient_of(Path(case)),
            "image": str(image),
            "mask": str(masks[case]),
            "stamp": stamp_of(image, masks[case]),
        }
        for case, image in images.items()
    )
    return Found(items, [*unused, *others])


def mask_files(folder: str | Path) -> dict[str, str]:
    """Case → path of its mask, of all masks below ``masks``.

    Args:
        folder: with a folder ``masks``.

    Raises:
        DataError: without such a folder, or for two files with the same name.
    """
    return {case: str(path) for case, path in _by_case(Path(folder) / "masks", SLICE_SUFFIXES)[0].items()}


def _by_case(folder: Path, repeatable: Sequence[str] = ()) -> tuple[dict[str, Path], list[Problem]]:
    found: dict[str, Path] = {}
    below = slice_walk(folder, repeatable)
    for path in (Path(file.path) for file in below.files):
        case = _case(path, folder)
        if case in found:
            raise DataError(f"has the name of {found[case].name}; keep one of them", path, "copies")
        found[case] = path
    return found, below.problems


def _case(path: Path, folder: Path) -> str:
    return path.relative_to(os.path.abspath(folder)).with_suffix("").as_posix()
