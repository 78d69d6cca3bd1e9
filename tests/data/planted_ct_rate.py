"""Faults of `ct_rate_multilabel`."""

from __future__ import annotations

import csv
import gzip
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
from planted import Fault, bytes_of, fresh, in_latin, inflated, rows, twice_first
from planted_volumes import volume_faults

from monai_ext.ct_rate import LABELS
from monai_ext.ct_rate.demo import VISIBLE

LABEL_TABLE, METADATA = "train_predicted_labels.csv", "train_metadata.csv"
REQUIRED = ("--metadata", "required")
INTERCEPTS = (-1024, -8192, 0)


def all_labels_occur(folder: Path) -> None:
    """The demo data leave twelve labels negative, which is a warning: here each is like one that is drawn."""
    for path in folder.rglob("*_predicted_labels.csv"):
        with path.open(newline="") as file:
            table = list(csv.DictReader(file))
        for row in table:
            row |= {label: row[VISIBLE[number % len(VISIBLE)]] for number, label in enumerate(LABELS)}
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, table[0])
            writer.writeheader()
            writer.writerows(table)


def images(folder: Path) -> list[Path]:
    return sorted(folder.rglob("train_*_a_1.nii.gz"))


def labels(change: Callable[[list[str]], list[str]], code: str = "labels") -> Fault:
    return Fault(lambda folder: rows(folder, change, LABEL_TABLE), code)


def metadata(change: Callable[[list[str]], list[str]], code: str = "labels") -> Fault:
    return Fault(lambda folder: rows(folder, change, METADATA), code, words=REQUIRED)


def without_row(name: str) -> Callable[[Path], Path]:
    """A volume that a table doesn't list."""

    def plant(folder: Path) -> Path:
        path = images(folder)[1]
        rows(folder, lambda lines: [line for line in lines if not line.startswith(path.name)], name)
        return path

    return plant


def hounsfield(path: Path) -> np.ndarray:
    """Hounsfield units of a volume; the demo data's tissue tells how it is stored."""
    stored = np.asanyarray(nib.load(path).dataobj.get_unscaled()).astype(np.float64)
    return min((stored + intercept for intercept in INTERCEPTS), key=lambda values: abs(np.median(values) + 500))


def as_hounsfield(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> Path:
    """Write a volume in Hounsfield units, changed."""
    voxels, affine = change(hounsfield(path)).astype(np.int16), nib.load(path).affine
    nib.save(nib.Nifti1Image(voxels, affine), fresh(path))
    return path


def changed(change: Callable[[np.ndarray], np.ndarray], code: str) -> Fault:
    return Fault(lambda folder: as_hounsfield(images(folder)[1], change), code)


def other_slope(folder: Path) -> Path:
    """A volume in Hounsfield units whose header says otherwise."""
    path = as_hounsfield(images(folder)[1], lambda v: v)
    return inflated(path, lambda c: c[:112] + np.array([1, -1024], "<f4").tobytes() + c[120:])


def both_versions(folder: Path) -> Path:
    train = next(folder.rglob("train"))
    shutil.copytree(train, train.with_name("train_fixed"), copy_function=os.link)
    return train.parent


def renamed(folder: Path) -> Path:
    path = images(folder)[1]
    return path.rename(path.with_name("scan7.nii.gz"))


def stray(folder: Path) -> Path:
    path = images(folder)[1].with_name("scan.dcm")
    path.write_bytes(b"DICM")
    return path


def same_name(folder: Path) -> Path:
    first, second = images(folder)[:2]
    return Path(shutil.copyfile(first, second.with_name(first.name)))


def not_chest(voxels: np.ndarray) -> np.ndarray:
    """A body without lungs: what is darker than fat inside the frame of air becomes tissue."""
    inner = np.zeros(voxels.shape, bool)
    inner[10:-10, 14:-14] = True
    return np.where(inner & (voxels < -200), 40, voxels)


def with_large_heart(folder: Path) -> set[str]:
    with next(folder.rglob(LABEL_TABLE)).open(newline="") as file:
        return {row["VolumeName"] for row in csv.DictReader(file) if row["Cardiomegaly"] == "1"}


def other_scanner(folder: Path) -> None:
    names = with_large_heart(folder)
    for path in folder.rglob("train_*.nii.gz"):
        if path.name in names:
            inflated(path, lambda content: content[:148] + b"GE Signa".ljust(80, b"\0") + content[228:])


def other_maker(folder: Path) -> Path:
    """In columns of the metadata that the demo data lack, as CT-RATE has them."""
    names = with_large_heart(folder)

    def made(line: str) -> str:
        return f"{line},{'Philips' if line.partition(',')[0] in names else 'Siemens'},x"

    rows(folder, lambda s: [s[0] + ",Manufacturer,ManufacturerModelName", *map(made, s[1:])], METADATA)
    return Path("the manufacturer of the scanner alone")


def less_compressed(folder: Path) -> Path:
    names = with_large_heart(folder)
    for path in folder.rglob("train_*.nii.gz"):
        if path.name in names:
            bytes_of(path, lambda content: gzip.compress(gzip.decompress(content), 0))
    return Path("the size of the files alone")


def other_spacing(folder: Path) -> None:
    """In the metadata, whose spacing counts."""
    names = with_large_heart(folder)

    def thicker(line: str) -> str:
        return f"{line.rpartition(',')[0]},9.5" if line.partition(",")[0] in names else line

    rows(folder, lambda lines: list(map(thicker, lines)), METADATA)


FAULTS = {
    **volume_faults(images, "hounsfield", "hounsfield"),
    "no lungs": changed(not_chest, "no-lungs"),
    "voxels that are no Hounsfield units": changed(lambda v: v / 4 + 600, "hounsfield"),
    "intercept applied twice": changed(lambda v: v - 1024, "hounsfield"),
    "slope and intercept contradict the voxels": Fault(other_slope, "hounsfield"),
    "volume without a row in the table of labels": Fault(without_row(LABEL_TABLE), "labels"),
    "volume without a row in the metadata": Fault(without_row(METADATA), "labels", words=REQUIRED),
    "label that is neither 0 nor 1": labels(lambda lines: [*lines[:-1], lines[-1][:-1] + "7"]),
    "volume with two rows of labels": labels(lambda lines: [*lines, lines[-1]]),
    "table of labels lacks a column": labels(lambda lines: [line.rpartition(",")[0] for line in lines]),
    "table of labels with an unknown column": labels(lambda lines: [lines[0] + ",x", *(s + ",1" for s in lines[1:])]),
    "table of labels with a column twice": labels(twice_first),
    "table of labels in Latin-1": Fault(lambda folder: in_latin(folder, LABEL_TABLE), "labels"),
    "metadata with two rows of a volume": metadata(lambda lines: [*lines, lines[-1]]),
    "metadata with text for a number": metadata(lambda lines: [*lines[:-1], lines[-1].rpartition(",")[0] + ",thin"]),
    "metadata lack a column": metadata(lambda lines: [line.rpartition(",")[0] for line in lines]),
    "both versions of CT-RATE": Fault(both_versions, "unusable"),
    "volume with another program's name": Fault(renamed, "labels"),
    "two volumes of one name": Fault(same_name, "copies"),
    "file of another kind": Fault(stray, "not-used"),
    "spacing tells a label": Fault(other_spacing, "shortcut", prepared=True),
    "scanner tells a label": Fault(other_scanner, "shortcut", prepared=True),
    "manufacturer in the metadata tells a label": Fault(other_maker, "shortcut", prepared=True),
    "size of the file alone tells the label": Fault(less_compressed, "shortcut", prepared=True),
}
