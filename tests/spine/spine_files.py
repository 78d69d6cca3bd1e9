"""Affines and files of made-up series."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np


def rotation(degrees: float, axes: tuple[int, int]) -> np.ndarray:
    matrix, angle = np.eye(3), np.deg2rad(degrees)
    a, b = axes
    matrix[[a, b], [a, b]], matrix[a, b], matrix[b, a] = np.cos(angle), -np.sin(angle), np.sin(angle)
    return matrix


def affine_of(directions: str, sizes=(0.7, 0.8, 3.0), oblique: float = 0.0) -> np.ndarray:
    """Affine of axes (I, J, K) that grow towards ``directions``, turned by ``oblique`` degrees."""
    matrix = np.zeros((3, 3))
    for axis, letter in enumerate(directions):
        world = next(i for i, pair in enumerate(("LR", "PA", "IS")) if letter in pair)
        matrix[world, axis] = 1 if letter in "RAS" else -1
    affine = np.eye(4)
    affine[:3, :3] = rotation(oblique, (0, 2)) @ rotation(oblique / 2, (1, 2)) @ matrix @ np.diag(sizes)
    affine[:3, 3] = (-31.5, 12.25, 40.125)
    return affine


def write_nifti(path: Path, voxels: np.ndarray, affine: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, affine), path)
    return path
