"""Volumes to predict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from monai_ext.data.case_names import distinct_cases
from monai_ext.data.left_out import Found
from monai_ext.data.walk import stem_of
from monai_ext.data.zarr_source import ZarrSource
from monai_ext.errors import DataError
from monai_ext.surface.folders import SUFFIX, SUFFIXES, arrays_in, not_in_sets, volume_folders


def inference_items(inputs: str | Path | Sequence[str | Path]) -> Found[dict[str, str]]:
    """``{"image": path or URL, "case": name}`` for each volume; what isn't used of a folder is in ``left_out``.

    Args:
        inputs: a Zarr volume, as a path or an fsspec URL, or an uncompressed NIfTI file; a folder that holds
            ``input.zarr``, or folders that do; or a list of volumes. The case name is that of the file, for an
            ``input.zarr`` that of its folder.

    Raises:
        DataError: when there is no volume, or two have the same case name.
    """
    places = [str(inputs)] if isinstance(inputs, str | Path) else [str(place) for place in inputs]
    found = [volume for place in places for volume in _volumes(place)]
    named = ({"image": place, "case": _name(place)} for place in found)
    items = distinct_cases(named, advice="predict each with an own output_dir")
    folders = [place for place in places if _is_folder_of_sets(place)]
    return Found(items, [note for folder in folders for note in not_in_sets(folder, ("input",))])


def _volumes(place: str) -> list[str]:
    if not _is_folder_of_sets(place):
        return [place]
    folders = volume_folders(place)
    if not folders:
        raise DataError(f"is no Zarr volume, and holds no input{SUFFIX}; give the volume itself", place)
    return [str(arrays_in(folder)["input"].absolute()) for folder in folders]


def _is_folder_of_sets(place: str) -> bool:
    return "://" not in place and Path(place).is_dir() and not _is_zarr(Path(place))


def _is_zarr(path: Path) -> bool:
    return any((path / name).exists() for name in ("zarr.json", ".zarray", ".zgroup", ".zattrs"))


def _name(place: str) -> str:
    place = ZarrSource.of(place).place
    path = Path(place.partition("://")[2] or place)
    name = stem_of(path, (*SUFFIXES, f".nii{SUFFIX}")) or path.name
    return (path.absolute().parent.name or name) if name == "input" else name
