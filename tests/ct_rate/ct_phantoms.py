"""Chests, an abdomen and a head in Hounsfield units, and the ways in which files hold them."""

from __future__ import annotations

import functools
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.ndimage import zoom

from monai_ext.ct_rate import demo

SIZE = demo.SIZES["small"]
AFFINE = np.diag([-SIZE.spacing[2], -SIZE.spacing[1], SIZE.spacing[0], 1.0])


def grid() -> tuple[np.ndarray, ...]:
    axes = [np.linspace(0, 1, SIZE.shape[0]), *(np.linspace(-1, 1, n) for n in SIZE.shape[1:])]
    return tuple(np.meshgrid(*axes, indexing="ij", sparse=True))


def blob(centre: tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
    """The voxels of an ellipsoid, (z, y, x); z from 0 to 1, y and x from -1 to 1."""
    return sum(((axis - c) / r) ** 2 for axis, c, r in zip(grid(), centre, radii, strict=True)) < 1


def noisy(volume: np.ndarray, sigma: float = 15.0) -> np.ndarray:
    """Whole Hounsfield units as a scanner has them: with noise, and nothing below -1024."""
    noise = np.random.default_rng(1).normal(0, sigma, volume.shape)
    return np.clip(np.rint(volume + noise), -1024, 3071)


@functools.cache
def chest(labels: tuple[str, ...] = (), seed: int = 3) -> np.ndarray:
    return noisy(demo.make_volume(np.random.default_rng(seed), set(labels), SIZE))


def contrast() -> np.ndarray:
    """The heart and the aorta at 350 HU."""
    volume = chest()
    return np.where((volume > 40) & (volume < 200) & (np.abs(grid()[2]) < 0.3), volume + 300, volume)


def cropped() -> np.ndarray:
    """No air around the body."""
    return chest()[:, 18:46, 10:54]


def white_lungs() -> np.ndarray:
    """Nine tenths of the lungs are full of fluid, no air around the body."""
    volume = cropped()
    z = np.arange(len(volume))[:, None, None]
    return np.where((volume < -500) & (z < 31), noisy(np.full(volume.shape, demo.FLUID)), volume)


def with_stomach_bubble() -> np.ndarray:
    """A chest with much gas in the stomach, which reaches from below the lungs to between them."""
    volume = np.where(blob((0.05, -0.15, 0.3), (0.17, 0.3, 0.36)), demo.TISSUE, chest())
    return np.where(blob((0.05, -0.15, 0.3), (0.12, 0.23, 0.28)), noisy(np.full(SIZE.shape, demo.AIR)), volume)


def abdomen(lung_bases: bool = False, table: bool = False) -> np.ndarray:
    """Fat, muscle, spine and loops of bowel, most of which hold gas."""
    rng = np.random.default_rng(5)
    volume = np.full(SIZE.shape, demo.AIR)
    volume[blob((0.5, 0, 0), (9, 0.6, 0.86))] = demo.FAT
    volume[blob((0.5, 0, 0), (9, 0.5, 0.76))] = demo.TISSUE
    volume[blob((0.5, 0.44, 0), (9, 0.1, 0.1))] = demo.BONE
    for centre in rng.uniform((0.05, -0.25, -0.5), (0.65, 0.1, 0.5), (14, 3)):
        radii = rng.uniform(0.8, 1.2, 3) * (0.08, 0.16, 0.16)
        volume[blob(centre, radii + np.array((0.01, 0.05, 0.05)))] = demo.TISSUE
        volume[blob(centre, radii)] = demo.AIR
    if lung_bases:
        for x in (-0.4, 0.4):
            volume[blob((1.1, 0, x), (0.28, 0.42, 0.29))] = demo.LUNG
    if table:  # a shell that is full of foam
        volume[:, 54:62, 4:60], volume[:, 56:60, 6:58] = demo.FAT, -900
    return noisy(volume)


def head() -> np.ndarray:
    """Brain, skull, sinuses full of air, and the small cells behind the ears, which are half bone."""
    volume = np.full(SIZE.shape, demo.AIR)
    volume[blob((0.5, 0, 0), (0.6, 0.8, 0.66))] = 1000
    volume[blob((0.5, 0, 0), (0.55, 0.74, 0.6))] = 35
    for x in (-0.15, 0.15):
        volume[blob((0.2, -0.5, x), (0.12, 0.16, 0.12))] = demo.AIR
        cells = blob((0.25, 0.2, 3 * x), (0.1, 0.14, 0.1))
        volume[cells] = np.random.default_rng(1).choice([-900, -600, 300], SIZE.shape)[cells]
    return noisy(volume)


def padded(hounsfield: np.ndarray, value: float | None, interpolated: bool = False) -> np.ndarray:
    """The volume with another value outside the round field of view; None leaves it."""
    if value is None:
        return hounsfield
    axes = [np.linspace(-1, 1, n) for n in hounsfield.shape[1:]]
    outside = np.add.outer(axes[0] ** 2, axes[1] ** 2) > 1
    padded = np.where(outside, value, hounsfield)
    return zoom(padded, (1, 1.3, 1.3), order=1) if interpolated else padded


def save(
    path: Path,
    hounsfield: np.ndarray,
    stored_as: tuple[float, float] = (1.0, 0.0),
    header: tuple[float, float] | None = None,
    dtype: type = np.int16,
) -> Path:
    """Write (Z, Y, X) as (HU - intercept) / slope; ``header`` is what the file says of them."""
    slope, intercept = stored_as
    array = (hounsfield.transpose(2, 1, 0) - intercept) / slope
    array = array.astype(dtype) if dtype == np.float32 else np.rint(array).astype(dtype)
    image = nib.Nifti1Image(np.ascontiguousarray(array), AFFINE)
    image.header.set_slope_inter(*(header or (None, None)))
    nib.save(image, path)
    return path
