"""Small nuclei in TIFF stacks, whole and damaged."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile

from monai_ext import nuclei
from monai_ext.data import TiffStack
from monai_ext.nuclei.scan import Nucleus

SHAPE = (6, 7, 8)
CLASSES = {1: "Round", 2: "Oval", 4: "Lobed", 19: "Unclassified"}


def write_stack(folder: Path, shape: Sequence[int] = SHAPE, value: int = 9, dtype: str = "u1", **options) -> Path:
    folder.mkdir(parents=True)
    for number in range(1, shape[0] + 1):
        tifffile.imwrite(folder / f"slice_{number:03d}.tif", np.full(shape[1:], value, dtype), **options)
    return folder


def write_table(root: Path, rows: Sequence[Sequence[object]], name: str = "classes.csv") -> Path:
    lines = ["sample_id,class_id,class_name", *(",".join(str(cell) for cell in row) for row in rows)]
    (root / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root / name


def virtual(labels: Sequence[int], crops: int = 2) -> nuclei.NucleiIndex:
    """An index without files."""
    stack = TiffStack("nowhere", ("1.tif",), (1, 1, 1), "|u1", (8,), bytes(16))
    positions = tuple((0, 0, 80 * x) for x in range(crops))
    samples = [
        Nucleus(f"{number:04d}", label, f"class {label}", stack, None, "s", positions)
        for number, label in enumerate(labels)
    ]
    return nuclei.NucleiIndex(samples, [])


def damage(root: Path, kind: str, case: str = "0005") -> None:
    sample = root / case
    if kind == "mask slice":
        (sample / "mask" / "slice_003.tif").unlink()
    elif kind == "raw slice":
        (sample / "raw" / "slice_003.tif").unlink()
    elif kind == "truncated":
        file = sample / "raw" / "slice_003.tif"
        file.write_bytes(file.read_bytes()[:-10])
    elif kind == "empty folder":
        for file in (sample / "raw").iterdir():
            file.unlink()
    elif kind == "shape":
        tifffile.imwrite(sample / "raw" / "slice_003.tif", np.zeros((5, 5), np.uint8))
    elif kind == "type":
        tifffile.imwrite(sample / "raw" / "slice_003.tif", np.zeros(SHAPE[1:], np.uint16))
    elif kind == "mask shape":
        for file in (sample / "mask").iterdir():
            tifffile.imwrite(file, np.zeros((5, 5), np.uint8))
    elif kind == "no raw":
        (sample / "raw").rename(sample / "images")


def spoil(path: Path) -> Path:
    """Write a compressed slice whose header is good and whose pixels aren't."""
    tifffile.imwrite(path, np.random.default_rng(0).integers(0, 9, SHAPE[1:]).astype(np.uint8), compression="zlib")
    with tifffile.TiffFile(path) as file:
        start = file.pages.first.dataoffsets[0]
    content = bytearray(path.read_bytes())
    content[start : start + 8] = b"\xff" * 8
    path.write_bytes(content)
    return path


def touch(root: Path) -> dict:
    file = root / "0003" / "raw" / "slice_002.tif"
    os.utime(file, ns=(1, 1))
    return {}
