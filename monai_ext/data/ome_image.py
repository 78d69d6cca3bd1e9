"""Levels, axes and voxel sizes of an OME-Zarr image, versions 0.1 to 0.5, whatever its metadata holds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zarr

from monai_ext.errors import DataError

# In their order where nothing names them.
AXES = "tczyx"
_BY_TYPE = {"time": "t", "channel": "c"}


@dataclass(frozen=True)
class OmeImage:
    """The first image of an OME-Zarr group.

    Attributes:
        paths: of its levels below the group, the finest first.
        axes: one letter each, of `AXES`; empty where nothing names them.
        units: of each axis, such as "micrometer"; None where it isn't given.
        scales: of each level, for each axis; empty where it isn't given.
        translations: of each level, for each axis, in units.
    """

    paths: tuple[str, ...]
    axes: tuple[str, ...] = ()
    units: tuple[str | None, ...] = ()
    scales: tuple[tuple[float, ...], ...] = ()
    translations: tuple[tuple[float, ...], ...] = ()

    @classmethod
    def of(cls, node: zarr.Group | zarr.Array, where: str | Path) -> OmeImage | None:
        """The image that a node's attributes describe; None where they describe none.

        Raises:
            DataError: naming ``where``, for entries of a wrong kind.
        """
        try:
            attributes: Any = dict(node.attrs)
            attributes = attributes.get("ome", attributes)
            images = attributes.get("multiscales") if isinstance(attributes, Mapping) else None
            if not images:
                return None
            image = images[0]
            if "axes" not in image and "coordinateSystems" in image:
                raise DataError("has the coordinateSystems of a later OME-Zarr; versions 0.1 to 0.5 are read", where)
            paths = tuple(dataset["path"] for dataset in image["datasets"])
            if not paths:
                raise DataError("lists no datasets among its multiscales; correct its attributes", where)
            odd = [path for path in paths if not isinstance(path, str) or ".." in path.split("/") or ":" in path]
            if odd:
                raise DataError(f"names {odd[0]!r} as the place of a level; it has to be a path within it", where)
            names = [_named(axis) for axis in image.get("axes") or ()]
            units = tuple(axis.get("unit") if isinstance(axis, Mapping) else None for axis in image.get("axes") or ())
            if not all(unit is None or isinstance(unit, str) for unit in units):
                raise DataError(f"gives units that are no text, {units}; correct its attributes", where)
            steps = [_placed(dataset, image, len(names)) for dataset in image["datasets"]]
        except DataError:
            raise
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"has OME-Zarr metadata of a wrong kind ({type(error).__name__}: {error}); correct its attributes",
                where,
            ) from error
        return cls(paths, tuple(names), units, tuple(scale for scale, _ in steps), tuple(move for _, move in steps))


def _named(axis: Any) -> str:
    """One letter for an axis, given as a name (0.3) or with its type (0.4 and later)."""
    if isinstance(axis, str):
        return axis.lower()
    return _BY_TYPE.get(axis.get("type", ""), str(axis["name"]).lower())


def _placed(dataset: Mapping[str, Any], image: Mapping[str, Any], ndim: int) -> tuple[tuple[float, ...], ...]:
    """Scale and translation of a level, those of the whole image applied after its own."""
    steps: Sequence[Mapping[str, Any]] = [
        *(dataset.get("coordinateTransformations") or ()),
        *(image.get("coordinateTransformations") or ()),
    ]
    scale: list[float] = []
    move: list[float] = []
    for step in steps:
        factors = [float(value) for value in step.get(step["type"], ())]
        unsized = step["type"] == "scale" and 0 in factors
        if not all(map(math.isfinite, factors)) or unsized or (ndim and factors and len(factors) != ndim):
            raise ValueError(f"{step['type']} {factors} for {ndim} axes")
        if not factors:  # the identity, or kept in a file of its own
            continue
        scale, move = scale or [1.0] * len(factors), move or [0.0] * len(factors)
        if step["type"] == "scale":
            scale = [a * b for a, b in zip(scale, factors, strict=True)]
            move = [a * b for a, b in zip(move, factors, strict=True)]
        elif step["type"] == "translation":
            move = [a + b for a, b in zip(move, factors, strict=True)]
    return tuple(scale), tuple(move)
