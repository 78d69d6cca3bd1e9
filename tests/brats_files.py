"""A few subjects in BraTS' own layout, and in that of a table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

MODALITIES = ("t1", "t1ce", "t2", "flair")


def save(path: Path, array: np.ndarray | None = None, spacing: float = 1.0) -> Path:
    if array is None:
        array = np.zeros((6, 7, 8), np.int16)
        array[2:5, 2:5, 2:5] = np.arange(100, 127).reshape(3, 3, 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.diag([-spacing, -spacing, spacing, 1.0])), path)
    return path


@pytest.fixture
def save_volume() -> Callable[..., Path]:
    return save


@pytest.fixture
def brats_dir(tmp_path: Path) -> Path:
    """Raw layout in a folder with a blank and a non-ASCII letter: 6 LGG and 7 HGG subjects, no two alike."""
    root = tmp_path / "données BraTS"
    for label, count in (("LGG", 6), ("HGG", 7)):
        for number in range(count):
            case = f"Brats18_{label}_{number}_1"
            for modality in MODALITIES:
                rng = np.random.default_rng([*case.encode(), *modality.encode()])
                array = np.zeros((18, 20, 22), np.int16)
                array[1:-1, 1:-1, 1:-1] = rng.integers(100, 200, (16, 18, 20))
                save(root / "MICCAI_BraTS_2018_Data_Training" / label / case / f"{case}_{modality}.nii.gz", array)
    return root


@pytest.fixture
def table_dir(tmp_path: Path) -> Path:
    """Flat layout with a CSV: a subject folder, files beside the table, and a prepared volume."""
    root = tmp_path / "flat"
    save(root / "a" / "a_flair.nii.gz")
    save(root / "b_flair.nii")
    np.save(root / "c.npy", np.ones((4, 4, 4), np.float32))
    (root / "classes.csv").write_text("patient_id,class\na,HGG\nb,lgg\nc,LGG\n", encoding="utf-8")
    return root
