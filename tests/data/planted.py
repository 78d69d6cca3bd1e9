"""What all planted faults share: how they are told, and how files of a copy that shares its data are changed."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np


@dataclass(frozen=True)
class Fault:
    """A fault and what tells it.

    Args:
        plant: changes a dataset; returns a path (or words, as a path) that the finding names, or None where it is about
            all cases.
        code: of the finding.
        prepared: whether it shows in prepared inputs only, so that ``check --sample 0`` can't see it.
        words: of the command line, before the bundle's own.
        nnunet: whether nnU-Net's check of images with segmentations would see the like.
    """

    plant: Callable[[Path], Path | None]
    code: str
    prepared: bool = False
    words: tuple[str, ...] = ()
    nnunet: bool = False


def fresh(path: Path) -> Path:
    """A path to be written: its file is shared with the clean data, so it is taken away first."""
    path.unlink(missing_ok=True)
    return path


def linked(data: Path, folder: Path) -> Path:
    """A copy whose files are the clean ones under other names; see `fresh`."""
    return Path(shutil.copytree(data, folder, copy_function=os.link))


def rows(folder: Path, change: Callable[[list[str]], list[str]], name: str = "*classes.csv") -> Path:
    """Change the lines of a table."""
    path = next(folder.rglob(name))
    lines = change(path.read_text().splitlines())
    fresh(path).write_text("\n".join(lines) + "\n")
    return path


def latin(lines: list[str]) -> bytes:
    """A table with an umlaut in its last row, as an old spreadsheet saves it."""
    return "\n".join([*lines[:-1], f"{lines[-1]}ä"]).encode("latin-1")


def in_latin(folder: Path, name: str = "*classes.csv") -> Path:
    path = next(folder.rglob(name))
    content = latin(path.read_text().splitlines())
    fresh(path).write_bytes(content)
    return path


def twice_first(lines: list[str]) -> list[str]:
    """A table whose first column is there twice, separated by semicolons."""
    return [";".join([line.split(",")[0], *line.split(",")]) for line in lines]


def noisy(voxels: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(0)
    top = np.iinfo(voxels.dtype).max if voxels.dtype.kind in "iu" else np.inf
    changed = voxels + rng.integers(0, 2, voxels.shape) * (voxels != 0)
    return np.clip(changed, None, top).astype(voxels.dtype)


def with_nan(voxels: np.ndarray) -> np.ndarray:
    return np.where(np.indices(voxels.shape).sum(axis=0) == 40, np.nan, voxels.astype(np.float32))


def bytes_of(path: Path, change: Callable[[bytes], bytes]) -> Path:
    """Change a file's bytes."""
    content = change(path.read_bytes())
    fresh(path).write_bytes(content)
    return path


def inflated(path: Path, change: Callable[[bytes], bytes]) -> Path:
    """Change the bytes that a gzip file holds."""
    return bytes_of(path, lambda content: gzip.compress(change(gzip.decompress(content)), 1))


def header(path: Path, **fields: Any) -> Path:
    """Set fields of a NIfTI header as no library would."""

    def change(content: bytes) -> bytes:
        changed = bytearray(content)
        for name, value in fields.items():
            kind, at = nib.Nifti1Header.template_dtype.fields[name][:2]
            block = np.asarray(value, kind.base).tobytes()
            changed[at : at + len(block)] = block
        return bytes(changed)

    return inflated(path, change)


def revoxel(path: Path, change: Callable[[np.ndarray], np.ndarray], affine: np.ndarray | None = None) -> Path:
    """Change the stored voxels of a NIfTI file, and keep its header otherwise."""
    old = nib.load(path)
    voxels = change(np.asanyarray(old.dataobj.get_unscaled()))
    new = nib.Nifti1Image(voxels, old.affine if affine is None else affine, old.header, dtype=voxels.dtype)
    new.header.set_slope_inter(*(old.dataobj.slope, old.dataobj.inter))
    nib.save(new, fresh(path))
    return path
