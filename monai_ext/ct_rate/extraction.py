"""Slices of every volume as small files: training reads kilobytes instead of volumes of hundreds of megabytes.

::

    <output>/slices/<split>/train_1_a_1_slice_042.npy    float32 (size, size), -1000…400 HU as 0…1
    <output>/splits/{train,valid}_slices.csv             one row per slice, with its labels
    <output>/records/<split>/train_1_a_1.json            file, metadata and settings that a volume's slices are from,
                                                         and how its Hounsfield units were found
    <output>/extraction.json                             the settings
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monai_ext.blocks import WorkerLost, run_in_order
from monai_ext.ct_rate.chest_ct import read_chest_ct
from monai_ext.ct_rate.finding import SUFFIX
from monai_ext.ct_rate.indexing import VolumeIndex
from monai_ext.ct_rate.slice_images import check_clahe, slice_images
from monai_ext.ct_rate.slice_table import SETTINGS, tables_of, write_tables
from monai_ext.ct_rate.volume import Volume
from monai_ext.data.problems import Problem
from monai_ext.errors import ConfigError, DataError
from monai_ext.io import atomic_path, finite, read_json, sweep_partial, write_json
from monai_ext.places import Place, processes_for

logger = logging.getLogger(__name__)

Outcome = dict[str, Any] | Problem
PRELOAD = ("monai_ext.ct_rate.extraction",)
FORMAT = 2  # a new one makes old records be ignored


def extract_slices(
    index: VolumeIndex,
    output: str | Path,
    num_slices: int = 12,
    size: int = 224,
    clahe: bool = False,
    workers: int | Place | None = None,
) -> list[Problem]:
    """Write the slices of all volumes below ``output``, and the tables that list them.

    A volume whose slices are complete, and whose file, metadata and settings haven't changed, is kept: called again
    after an interruption, it continues. Volumes that can't be read are left out of the tables and reported.

    Args:
        index: the volumes, from `monai_ext.ct_rate.volumes`.
        output: folder; it is created.
        num_slices: slices per volume, at least 1; see `slice_positions`.
        size: edge length of a slice in pixels, at least 1.
        clahe: raise local contrast afterwards (needs scikit-image); inference has to do the same.
        workers: processes (one thread each), or a place such as `monai_ext.places.Dask`; default one per CPU, at most
            8, or this one alone for a few small volumes; 0 or 1 works in this process.

    Returns:
        The problems of the volumes that were left out, including those of ``index``.

    Raises:
        ConfigError: for a setting out of range, or ``clahe`` without scikit-image; nothing is written then.
        WriteError: when ``output`` can't be written.
    """
    output = Path(output)
    settings: dict[str, Any] = {"format": FORMAT, "num_slices": num_slices, "size": size, "clahe": clahe}
    if num_slices < 1 or size < 1:
        raise ConfigError(f"extract_slices: num_slices and size must be at least 1, got {num_slices} and {size}")
    check_clahe(clahe)
    sweep_partial(output, shared=True)
    _begin(output, settings)
    place = processes_for(workers, len(index.volumes), PRELOAD)
    extract = functools.partial(_extract_one, output=output.absolute(), settings=settings)
    results = run_in_order(extract, index.volumes, place, "extracting slices", "volume", _lost)
    problems = [result for result in results if isinstance(result, Problem)]
    done = [
        (volume, result)
        for volume, result in zip(index.volumes, results, strict=True)
        if not isinstance(result, Problem)
    ]
    write_tables(output, done)
    logger.info("slices of %d volumes in %s, %d left out", len(done), output, len(problems))
    return [*index.problems, *problems]


def _begin(output: Path, settings: dict[str, Any]) -> None:
    """Note the settings. Tables of slices made with others go: their files are about to be replaced."""
    file = output / SETTINGS
    if file.is_file() and read_json(file) != settings:
        for table in tables_of(output):
            table.unlink()
    write_json(file, settings)


def _lost(volume: Volume, error: Exception) -> Problem:
    if isinstance(error, WorkerLost):
        return Problem(volume.path, str(error))
    raise error


def _extract_one(volume: Volume, output: Path, settings: dict[str, Any]) -> Outcome:
    """The record of a volume's slices, which exist then."""
    stem = volume.name.removesuffix(SUFFIX)
    folder, file = output / "slices" / volume.split, output / "records" / volume.split / f"{stem}.json"
    made_from = finite({**settings, "stamp": list(volume.stamp), "rescale": list(volume.rescale or ())})
    known = _read_record(file)
    if known is not None and known["made_from"] == made_from and _complete(folder, known):
        return known
    try:
        ct = read_chest_ct(volume.path, volume.rescale)
    except DataError as error:
        # Slices of an earlier, readable file mustn't be used for the present one.
        file.unlink(missing_ok=True)
        _remove(folder, known, ())
        return Problem.of(error, volume.path)
    positions, images, doubt = slice_images(ct, settings["num_slices"], settings["size"], settings["clahe"])
    depth = ct.stored.shape[0]
    slices = []
    for z, image in zip(positions, images, strict=True):
        name = f"{stem}_slice_{z:03d}.npy"
        with atomic_path(folder / name) as temporary:
            np.save(temporary, image)
        slices.append({"index": z, "file": name, "relative_position": round(z / max(depth - 1, 1), 6)})
    _remove(folder, known, [entry["file"] for entry in slices])
    record = {
        "made_from": made_from,
        "reading": str(ct.reading),
        "doubt": doubt,
        "shape": list(ct.stored.shape),
        "slices": slices,
    }
    # Last, so that a record exists only when all its slices do.
    write_json(file, record)
    return record


def _read_record(file: Path) -> dict[str, Any] | None:
    try:
        record = read_json(file)
    except DataError:
        return None
    return record if isinstance(record, dict) and {"made_from", "reading", "slices", "shape"} <= set(record) else None


def _complete(folder: Path, record: dict[str, Any]) -> bool:
    size = record["made_from"]["size"]
    least = 4 * size * size
    return all(_bytes(folder / entry["file"]) >= least for entry in record["slices"])


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1


def _remove(folder: Path, record: dict[str, Any] | None, kept: Sequence[str]) -> None:
    """Delete the slices of a record but those to keep. No folder is listed: it may hold hundreds of thousands."""
    for entry in record["slices"] if record is not None else ():
        if entry["file"] not in kept:
            (folder / entry["file"]).unlink(missing_ok=True)
