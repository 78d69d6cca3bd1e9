"""The slices of training volumes as small files, cut beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from monai_ext.blocks import run_in_order
from monai_ext.data.left_out import refuse
from monai_ext.data.problems import Problem
from monai_ext.errors import ConfigError, DataError
from monai_ext.io import atomic_path
from monai_ext.places import Threads
from monai_ext.spine.checking import CLASS_STAGES, HOW_TO_GET_TRAINING
from monai_ext.spine.class_folders import class_items
from monai_ext.spine.image_mask import image_mask_problems, mask_folders
from monai_ext.spine.load_slice import read_item
from monai_ext.workflow import default_workers


def extract_slices(
    dataset_dir: str | Path, output: str | Path, workers: int | None = None
) -> tuple[int, list[Problem]]:
    """Write the slices of all training folders: a training on them gets the same values as one on the volumes.

    Images become TIFF files in float32, masks PNG files with 0 and 255, in ``<stage>/images`` and ``<stage>/masks`` or
    ``<stage>/<class>`` below ``output``, each volume in a folder of its own.

    Args:
        dataset_dir: folder of training folders, or of BIDS.
        output: folder to write, which must be new or empty.
        workers: threads; default one per CPU, at most 8.

    Returns:
        Number of slices, and the problems of what was left out.

    Raises:
        ConfigError: for an output folder with something in it, or inside the data.
        DataError: when there is nothing to extract.
        WriteError: when a file can't be written.
    """
    target = Path(output)
    if target.resolve().is_relative_to(Path(dataset_dir).resolve()):
        raise ConfigError(f"--output {output}: lies in the data, of which it would become a part; give another folder")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"--output {output}: holds other files; give a new or an empty folder")
    items, problems = _items(Path(dataset_dir))
    if not items:
        refuse(problems)
        raise DataError(f"holds no training folder; {HOW_TO_GET_TRAINING}", dataset_dir)

    def write(entry: tuple[Path, Mapping[str, Any]]) -> Problem | None:
        folder, item = entry
        try:
            _write(target / folder, item)
        except DataError as error:
            return Problem.of(error, item["image"])
        return None

    place = Threads(default_workers() if workers is None else workers)
    found = run_in_order(write, items, place, "extracting slices")
    failed = [problem for problem in found if problem is not None]
    return len(items) - len(failed), [*problems, *failed]


def _items(root: Path) -> tuple[list[tuple[Path, Mapping[str, Any]]], list[Problem]]:
    entries: list[tuple[Path, Mapping[str, Any]]] = []
    problems: list[Problem] = []
    for stage in CLASS_STAGES:
        if (root / stage).is_dir():
            found = class_items(root / stage)
            entries += [(Path(stage), item) for item in found]
            problems += found.unused
    for stage, folder in mask_folders(root).items():
        items, more = image_mask_problems(folder, stage)
        entries += [(Path(stage), item) for item in items]
        problems += more
    return entries, problems


def _write(folder: Path, item: Mapping[str, Any]) -> None:
    import tifffile
    from PIL import Image

    image = read_item(item, "image")
    with atomic_path(folder / ("images" if "mask" in item else "") / f"{item['case']}.tif") as temporary:
        tifffile.imwrite(temporary, image, compression="zlib")
    if "mask" in item:
        mask = (read_item(item, "mask", mask=True) > 0).astype(np.uint8) * 255
        with atomic_path(folder / "masks" / f"{item['case']}.png") as temporary:
            Image.fromarray(mask).save(temporary, format="png")
