"""Images that a run reads and writes, and where they lie in space."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

SUFFIXES = (".nii", ".nii.gz", ".png", ".jpg", ".zarr")


@dataclass(frozen=True)
class PlaceInSpace:
    """Spatial sizes and, for NIfTI, the position in space; equal when all that both know is."""

    shape: tuple[int, ...]
    affine: tuple[float, ...] | None = field(default=None)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PlaceInSpace) or self.shape != other.shape:
            return False
        return self.affine is None or other.affine is None or np.allclose(self.affine, other.affine, atol=1e-3)

    def __str__(self) -> str:
        where = "" if self.affine is None else f" with the affine {np.round(self.affine, 2).tolist()}"
        return f"{' x '.join(map(str, self.shape))}{where}"


def images_below(folder: Path) -> Iterator[Path]:
    """Image files and Zarr volumes below a folder; the insides of a Zarr volume are none.

    Args:
        folder: may be missing.
    """
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name.endswith(SUFFIXES):
            yield path
        elif path.is_dir() and path.name != "bundle":
            yield from images_below(path)


def geometry(path: Path) -> PlaceInSpace:
    """Of an image file or Zarr volume.

    Args:
        path: a path of `images_below`.
    """
    if path.suffix == ".zarr":
        import zarr

        node = zarr.open(str(path), mode="r")
        while isinstance(node, zarr.Group):
            node = next(value for _, value in sorted(node.members()))
        return PlaceInSpace(tuple(node.shape[-3:]))
    if path.suffix in (".png", ".jpg"):
        from PIL import Image

        return PlaceInSpace(Image.open(path).size)
    import nibabel as nib

    image = nib.load(path)
    shape = image.shape[:3] if len(image.shape) > 3 else image.shape
    return PlaceInSpace(tuple(shape), tuple(image.affine.ravel().tolist()))
