"""Images in one folder per class: ``<dataset_dir>/<class>/<name>.png``.

Items are dicts with ``case`` (unique), ``image`` (path), ``label`` (from 0; absent when unknown) and ``stamp`` (size
and time of the file, so that a changed file is prepared again).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from monai_ext.data import Problem, grouped_stratified_folds
from monai_ext.data.case_names import distinct_cases
from monai_ext.data.checks import run_checks
from monai_ext.data.demo_folder import known_size, write_folder
from monai_ext.data.stamps import stamps_of
from monai_ext.errors import DataError

CLASS_NAMES = ("circle", "square")
COUNTS = {"small": 20, "full": 200}


def find_items(dataset_dir: str | Path, class_names: Sequence[str], suffix: str = ".png") -> list[dict[str, Any]]:
    """All labelled images, by class and name.

    Args:
        dataset_dir: folder with one folder per class.
        class_names: names of these folders, in the order of the labels.
        suffix: of the image files.

    Raises:
        DataError: when a class has no image; for two files with the same case name.
    """
    items = []
    for label, name in enumerate(class_names):
        files = sorted(Path(dataset_dir, name).glob(f"*{suffix}"))
        if not files:
            raise DataError(f"no {suffix} files of the class {name!r}", Path(dataset_dir, name))
        items += [{**_item(file), "label": label} for file in files]
    return distinct_cases(items)


def splits(
    dataset_dir: str | Path, class_names: Sequence[str], suffix: str, fold: int, num_folds: int = 5, seed: int = 42
) -> dict[str, list[dict[str, Any]]]:
    """Training and validation set of a cross-validation fold.

    Args:
        dataset_dir: see `find_items`.
        class_names: see `find_items`.
        suffix: see `find_items`.
        fold: from 1 to ``num_folds``.
        num_folds: number of folds, at least 2.
        seed: of the folds.

    Returns:
        ``{"train": [...], "val": [...]}``.

    Raises:
        DataError: see `find_items`; when the data are too few for the folds.
    """
    items = find_items(dataset_dir, class_names, suffix)
    # Images of one patient belong into one group, so that no patient is in both sets; here each is a group.
    groups, labels = [item["case"] for item in items], [item["label"] for item in items]
    train, val = grouped_stratified_folds(groups, labels, num_folds, seed)[fold - 1]
    return {"train": [items[i] for i in train], "val": [items[i] for i in val]}


def inference_items(inputs: str | Path, suffix: str) -> list[dict[str, Any]]:
    """The images to predict.

    Args:
        inputs: a file, or a folder of which all files below are read.
        suffix: of the image files.

    Raises:
        DataError: when there is none; for two files with the same case name.
    """
    path = Path(inputs)
    files = [path] if path.is_file() else sorted(path.rglob(f"*{suffix}"))
    if not files:
        raise DataError(f"no {suffix} files", path)
    return distinct_cases([_item(file) for file in files])


def check(dataset_dir: str | Path, workers: int | None = None) -> list[Problem]:
    """Open all images and list those that can't be read.

    Args:
        dataset_dir: see `find_items`.
        workers: threads; default one per CPU, at most 8.

    Raises:
        DataError: see `find_items`.
    """
    return run_checks(_check_image, [{"file": item["image"]} for item in find_items(dataset_dir, CLASS_NAMES)], workers)


def _check_image(file: str) -> list[Problem]:
    try:
        with Image.open(file) as image:
            image.load()
    except OSError as error:
        return [Problem(file, f"can't be read ({error})")]
    return []


def make_demo(output: str | Path, seed: int = 0, size: str = "small") -> Path:
    """Write noisy circles and squares of 32 x 32 pixels; the same arguments give the same bytes.

    Args:
        output: folder, created where it doesn't exist.
        seed: of all random numbers, at least 0.
        size: "small" (20 images per class) or "full" (200).

    Raises:
        ConfigError: for an unknown size.
        DataError: when other data lie in ``output``, also those of other classes.
    """
    count = known_size(COUNTS, size)
    settings = {"classes": list(CLASS_NAMES), "seed": seed, "size": size}
    write_folder(output, settings, lambda folder: _write(folder, seed, count))
    return Path(output)


def _write(folder: Path, seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:32, :32]
    for name in CLASS_NAMES:
        (folder / name).mkdir()
        for number in range(count):
            radius, *centre = rng.uniform([6, 12, 12], [10, 20, 20])
            dy, dx = abs(y - centre[0]), abs(x - centre[1])
            distance = np.hypot(dy, dx) if name == "circle" else np.maximum(dy, dx)
            image = 60 + 120 * (distance < radius) + rng.normal(0, 15, x.shape)
            Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / name / f"{name}_{number:03d}.png")


def _item(file: Path) -> dict[str, Any]:
    return {"case": file.stem, "image": str(file.absolute()), "stamp": stamps_of(file)}
