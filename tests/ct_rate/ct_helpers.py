"""CT-RATE's layout in small: volumes of a body with two lungs, and its tables."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from monai_ext.ct_rate import LABELS

LPS = np.diag([-2.0, -2.0, 3.0, 1.0])


def chest(shape: tuple[int, int, int] = (20, 32, 32), lungs: tuple[int, int] = (4, 15), seed: int = 0) -> np.ndarray:
    """A body with two lungs in slices ``lungs`` (both included), Hounsfield units as int16 (Z, Y, X), head upwards."""
    depth, height, width = shape
    z, y, x = np.ogrid[:depth, :height, :width]
    rng = np.random.default_rng(seed)
    body = ((y - height / 2) / (0.4 * height)) ** 2 + ((x - width / 2) / (0.45 * width)) ** 2 < 1
    volume = np.where(np.broadcast_to(body, shape), 40, -1000)
    inside = (z >= lungs[0]) & (z <= lungs[1])
    for centre in (0.3, 0.7):
        lung = ((y - height / 2) / (0.25 * height)) ** 2 + ((x - centre * width) / (0.14 * width)) ** 2 < 1
        volume = np.where(inside & lung, -800, volume)
    return (volume + rng.integers(-20, 20, shape)).astype(np.int16)


def save_ct(
    path: Path,
    hounsfield: np.ndarray | None = None,
    affine: np.ndarray = LPS,
    header: tuple[float, float] | None = None,
    stored_as: tuple[float, float] = (1.0, 0.0),
) -> Path:
    """Write Hounsfield units (Z, Y, X in the frame) as a file would hold them: (HU - intercept) / slope.

    ``header`` is what the file says of slope and intercept; by default nothing.
    """
    volume = chest() if hounsfield is None else hounsfield
    slope, intercept = stored_as
    array = np.rint((volume.transpose(2, 1, 0) - intercept) / slope).astype(np.int16)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array, affine)
    image.header.set_slope_inter(*(header or (None, None)))
    nib.save(image, path)
    return path


def write_table(path: Path, rows: list[dict[str, Any]], columns: list[str] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns or list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def metadata_row(name: str, **changes: Any) -> dict[str, Any]:
    row = {"VolumeName": name, "RescaleSlope": 1, "RescaleIntercept": -1024, "XYSpacing": "[2.0, 2.0]", "ZSpacing": 3}
    return {**row, "Manufacturer": "none", **changes}


def label_row(name: str, positive: tuple[str, ...] = (), **changes: Any) -> dict[str, Any]:
    return {"VolumeName": name, **{label: int(label in positive) for label in LABELS}, **changes}


def write_dataset(
    root: Path,
    names: Mapping[str, tuple[str, ...]],
    save: Callable[[Path], Any] = lambda path: save_ct(path, stored_as=(1.0, -1024.0)),
) -> Path:
    """The official layout: volume name → positive labels."""
    for split, metadata in (("train", "train"), ("valid", "validation")):
        chosen = {name: labels for name, labels in names.items() if name.startswith(split)}
        if not chosen:
            continue
        for name in chosen:
            patient, scan = name.rsplit("_", 2)[0], name.rsplit("_", 1)[0]
            save_to = root / "dataset" / split / patient / scan / name
            save_to.parent.mkdir(parents=True, exist_ok=True)
            save(save_to)
        rows = [label_row(name, labels) for name, labels in chosen.items()]
        write_table(root / f"dataset/multi_abnormality_labels/{split}_predicted_labels.csv", rows)
        write_table(root / f"dataset/metadata/{metadata}_metadata.csv", [metadata_row(name) for name in chosen])
    return root


NAMES = {
    "train_1_a_1.nii.gz": ("Emphysema",),
    "train_1_a_2.nii.gz": ("Emphysema",),
    "train_1_b_1.nii.gz": ("Emphysema", "Lung nodule"),
    "train_2_a_1.nii.gz": (),
    "train_10_a_1.nii.gz": ("Cardiomegaly",),
    "valid_1_a_1.nii.gz": ("Lung nodule",),
}
