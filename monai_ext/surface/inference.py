"""Volumes to predict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from monai_ext.errors import DataError
from monai_ext.surface.sets import SUFFIX, volume_folders


def inference_items(inputs: str | Path | Sequence[str | Path]) -> list[dict[str, str]]:
    """``{"image": path or URL, "case": name}`` for each volume.

    Args:
        inputs: a Zarr volume, as a path or an fsspec URL, or an uncompressed NIfTI file; a folder that holds
            ``input.zarr``, or folders that do; or a list of volumes. The case name is that of the file, for an
            ``input.zarr`` that of its folder.

    Raises:
        DataError: when there is no volume, or two have the same case name.
    """
    places = [str(inputs)] if isinstance(inputs, str | Path) else [str(place) for place in inputs]
    found = [volume for place in places for volume in _volumes(place)]
    items = [{"image": place, "case": _name(place)} for place in found]
    twice = [case for case, count in Counter(item["case"] for item in items).items() if count > 1]
    if twice:
        raise DataError(f"two volumes are called {twice[0]!r}; predict them one after the other, with own output_dir")
    return items


def _volumes(place: str) -> list[str]:
    path = Path(place)
    if "://" in place or not path.is_dir() or _is_zarr(path):
        return [place]
    folders = volume_folders(path)
    if not folders:
        raise DataError(f"is no Zarr volume, and holds no input{SUFFIX}; give the volume itself", place)
    return [str(folder.absolute() / f"input{SUFFIX}") for folder in folders]


def _is_zarr(path: Path) -> bool:
    return any((path / name).exists() for name in ("zarr.json", ".zarray", ".zgroup", ".zattrs"))


def _name(place: str) -> str:
    path = Path(place.partition("://")[2] or place)
    name = path.name.removesuffix(SUFFIX).removesuffix(".nii")
    return (path.absolute().parent.name or name) if name == "input" else name
