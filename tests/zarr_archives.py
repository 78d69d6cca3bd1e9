"""Zarr volumes as archives have them, for tests."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import zarr


def write_tczyx(root: Path, values: np.ndarray, channel: int, counts: tuple[int, int]) -> None:
    """An OME-Zarr 0.4 image in micrometres that has these values (Z, Y, X) in one channel of the last timepoint."""
    rest = np.random.default_rng(1).integers(0, 255, (*counts, *values.shape)).astype(values.dtype)
    rest[-1, channel] = values
    group = zarr.open_group(root, mode="w", zarr_format=2)
    group.create_array("0", data=rest, chunks=(1, 1, 8, 16, 16), chunk_key_encoding={"name": "v2", "separator": "/"})
    kinds = {"t": "time", "c": "channel"}
    axes = [
        {"name": name, "type": kinds.get(name, "space"), **({} if name in kinds else {"unit": "micrometer"})}
        for name in "tczyx"
    ]
    steps = [{"type": "scale", "scale": [1.0, 1.0, 3.0, 2.0, 2.0]}]
    datasets = [{"path": "0", "coordinateTransformations": steps}]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]


def zipped(folder: Path) -> Path:
    file = Path(shutil.make_archive(str(folder), "zip", folder))
    shutil.rmtree(folder)
    return file


def break_names(array: Path) -> None:
    """What an old writer leaves: nested chunks, and metadata that don't say so."""
    values = zarr.open_array(array, mode="r")[...]
    shutil.rmtree(array)
    nested = {"name": "v2", "separator": "/"}
    zarr.create_array(array, data=values, chunks=(8, 16, 16), zarr_format=2, chunk_key_encoding=nested)
    metadata = json.loads((array / ".zarray").read_text())
    del metadata["dimension_separator"]
    (array / ".zarray").write_text(json.dumps(metadata))
