"""OME-Zarr metadata of predictions: axes, voxel size, levels; 0.5 for Zarr v3, 0.4 for v2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_ext.data.volumes_zarr import open_node

_VERSIONS = {2: "0.4", 3: "0.5"}


@dataclass(frozen=True)
class VoxelSpace:
    """Where a volume's voxels lie, along Z, Y, X.

    Attributes:
        scale: size of a voxel.
        translation: centre of the first voxel.
        units: of both, such as "micrometer"; None where they aren't known.
    """

    scale: tuple[float, ...] = (1.0, 1.0, 1.0)
    translation: tuple[float, ...] = (0.0, 0.0, 0.0)
    units: tuple[str | None, ...] = (None, None, None)

    def level(self, level: int) -> VoxelSpace:
        """The space of a level with voxels 2 ** level as large, the first corner staying where it is."""
        factor = 2**level
        return VoxelSpace(
            tuple(size * factor for size in self.scale),
            tuple(first + (factor - 1) / 2 * size for first, size in zip(self.translation, self.scale, strict=True)),
            self.units,
        )


def voxel_space(source: str | Path, level: int = 0) -> VoxelSpace:
    """What an OME-Zarr image says of one of its levels; voxels of size 1 for an array, or where it doesn't say."""
    node = open_node(source)
    attributes: dict[str, Any] = dict(node.attrs)
    try:
        image = attributes.get("ome", attributes)["multiscales"][0]
        axes = image.get("axes", [])[-3:]
        units = tuple(axis.get("unit") if isinstance(axis, dict) else None for axis in axes)
        scale, translation = [1.0] * 3, [0.0] * 3
        steps = [
            *image["datasets"][level].get("coordinateTransformations", []),
            *image.get("coordinateTransformations", []),
        ]
        for step in steps:
            if step["type"] == "scale":
                factors = [float(factor) for factor in step["scale"][-3:]]
                scale = [a * b for a, b in zip(scale, factors, strict=True)]
                translation = [a * b for a, b in zip(translation, factors, strict=True)]
            elif step["type"] == "translation":
                translation = [a + float(b) for a, b in zip(translation, step["translation"][-3:], strict=True)]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return VoxelSpace()
    return VoxelSpace(tuple(scale), tuple(translation), units if len(units) == 3 else (None, None, None))


def image_attributes(
    name: str, axes: Sequence[str], space: VoxelSpace, levels: int, zarr_format: int
) -> dict[str, Any]:
    """Attributes of the group of an image whose levels are the arrays "0", "1", ...

    Args:
        name: of the image.
        axes: names of the array's axes, ("z", "y", "x") or with "c" in front.
        space: of level 0.
        levels: number of them; each halves the size.
        zarr_format: 2 or 3.
    """
    channels = len(axes) - 3
    version = _VERSIONS[zarr_format]
    image: dict[str, Any] = {
        "name": name,
        "axes": [{"name": "c", "type": "channel"}] * channels
        + [
            {"name": axis, "type": "space", **({"unit": unit} if unit else {})}
            for axis, unit in zip(axes[channels:], space.units, strict=True)
        ],
        "datasets": [
            {"path": str(level), "coordinateTransformations": _transformations(space.level(level), channels)}
            for level in range(levels)
        ],
    }
    if zarr_format == 2:
        return {"multiscales": [{"version": version, **image}]}
    return {"ome": {"version": version, "multiscales": [image]}}


def _transformations(space: VoxelSpace, channels: int) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = [{"type": "scale", "scale": [1.0] * channels + list(space.scale)}]
    if any(space.translation):
        steps.append({"type": "translation", "translation": [0.0] * channels + list(space.translation)})
    return steps
