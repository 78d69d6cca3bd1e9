"""Training sets of images and masks in two folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monai_ext.errors import DataError
from monai_ext.spine.folders import patient_of, slice_files, stamp_of


def image_mask_items(folder: str | Path) -> list[dict[str, Any]]:
    """Slices with their masks, which have the same path below ``masks`` as the image below ``images``.

    Args:
        folder: ``images/<patient>/...`` or ``images/<patient>_...``, and ``masks``; suffixes may differ.

    Returns:
        Items as the package's docstring lists them.

    Raises:
        DataError: when there is no image; for an image without a mask, a mask without an image, or two files with the
            same name.
    """
    images, masks = (_by_case(Path(folder) / name) for name in ("images", "masks"))
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
    return [
        {
            "case": case,
            "patient": patient_of(Path(case)),
            "image": str(image),
            "mask": str(masks[case]),
            "stamp": stamp_of(image, masks[case]),
        }
        for case, image in images.items()
    ]


def mask_files(folder: str | Path) -> dict[str, str]:
    """Case → path of its mask, of all masks below ``masks``.

    Args:
        folder: with a folder ``masks``.

    Raises:
        DataError: without such a folder, or for two files with the same name.
    """
    return {case: str(path) for case, path in _by_case(Path(folder) / "masks").items()}


def _by_case(folder: Path) -> dict[str, Path]:
    root = folder.absolute()
    found: dict[str, Path] = {}
    for path in slice_files(folder):
        case = path.relative_to(root).with_suffix("").as_posix()
        if case in found:
            raise DataError(f"has the name of {found[case].name}; keep one of them", path)
        found[case] = path
    return found
