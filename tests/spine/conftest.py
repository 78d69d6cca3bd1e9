from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from spine_files import affine_of

from monai_ext.spine.demo_dicom import write_dicom_series


@pytest.fixture
def voxels() -> np.ndarray:
    """(I, J, K) = (12, 16, 6), every value another."""
    return np.random.default_rng(0).permutation(12 * 16 * 6).reshape(12, 16, 6).astype(np.int16)


@pytest.fixture
def dicom(tmp_path: Path, voxels: np.ndarray):
    """Write a series below ``tmp_path / "data"``; gives the files in the order of the slices."""

    def write(folder: str = "ann/t2", directions: str = "PIL", oblique: float = 0.0, patient="SECRET1", number=3):
        affine = affine_of(directions, oblique=oblique)
        return write_dicom_series(tmp_path / "data" / folder, voxels, affine, patient, number)

    return write
