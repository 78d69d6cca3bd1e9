"""Small, learnable synthetic data in the file layout of CT-RATE: chest CTs, label and metadata tables.

All volumes are drawn alike (body, lungs, heart, aorta, spine, table, noise); six of the 18 labels are drawn
independently of each other, and each adds one simple structure at realistic Hounsfield units. The other twelve labels
are negative everywhere. Scans of a patient show the same labels in a new position, reconstructions the same scan with
other noise. Use it to try out a training run, never for a statement about real chests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from monai_ext.ct_rate import LABELS
from monai_ext.data.demo_folder import known_size, write_folder
from monai_ext.errors import ConfigError
from monai_ext.io import write_csv

FOLDER = "dataset"
AIR, FAT, TISSUE, BLOOD, LUNG, BONE, METAL, FLUID, LIME = -1000, -100, 40, 50, -780, 450, 3000, 10, 900
POSITIVE_SHARE = 0.4
AORTA = (0.17, 0.1)  # y, x


@dataclass(frozen=True)
class Size:
    """Grid of the volumes.

    Args:
        shape: voxels along Z, Y, X.
        spacing: their edges along Z, Y, X in mm.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]


SIZES = {
    "small": Size((40, 64, 64), (8.0, 6.0, 6.0)),
    "full": Size((240, 512, 512), (1.5, 0.75, 0.75)),
}


class Anatomy:
    """Positions of a patient's organs: z from 0 (bottom) to 1, y from -1 (front) to 1, x from -1 (right) to 1.

    All random numbers of the anatomy are drawn here, so that it doesn't depend on the labels.

    Args:
        rng: source of the random numbers.
        size: grid of the volume.
    """

    def __init__(self, rng: np.random.Generator, size: Size) -> None:
        axes = [np.linspace(0, 1, size.shape[0]), *(np.linspace(-1, 1, n) for n in size.shape[1:])]
        scale = rng.uniform(0.92, 1.08)
        shift = rng.uniform(-0.04, 0.04, 3)
        self.z, self.y, self.x = np.meshgrid(*axes, indexing="ij", sparse=True)
        self.z, self.y, self.x = self.z + shift[0], (self.y + shift[1]) / scale, (self.x + shift[2]) / scale
        self.grain = size.shape[1] / 64  # one voxel of the small size
        self.texture = self._noise(rng, size, 1.5)
        # x, y, z of possible nodules, and positions of calcifications along the aorta
        self.nodules = rng.uniform((-0.17, -0.25, 0.25), (0.17, 0.25, 0.8), (10, 3))
        self.sides = rng.permutation([-0.4, 0.4] * 5)
        self.lime = rng.uniform(0, 2 * np.pi, 20), np.linspace(0.1, 0.9, 20)
        self.fluid_level = rng.uniform(-0.05, 0.1)

        self.body = self.inside((0.5, 0, 0), (9, 0.6, 0.86))
        self.lungs = self.inside((0.54, 0, -0.4), (0.44, 0.42, 0.29)) | self.inside((0.54, 0, 0.4), (0.44, 0.42, 0.29))
        self.aorta = self.inside((0.5, *AORTA), (9, 0.1, 0.1))

    def inside(self, centre: tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
        """The voxels of an ellipsoid; centre and radii as (z, y, x)."""
        z, y, x = ((axis - c) / r for axis, c, r in zip((self.z, self.y, self.x), centre, radii, strict=True))
        return z**2 + y**2 + x**2 < 1

    @staticmethod
    def _noise(rng: np.random.Generator, size: Size, sigma: float) -> np.ndarray:
        """Gaussian random field of unit variance, float32."""
        field = gaussian_filter(rng.standard_normal(size.shape, dtype=np.float32), sigma * size.shape[1] / 64)
        return field / field.std()


def _emphysema(volume: np.ndarray, at: Anatomy) -> None:
    volume[at.lungs & (volume < -600) & (at.texture > 0.3)] = -985


def _nodule(volume: np.ndarray, at: Anatomy) -> None:
    for side, (x, y, z) in zip(at.sides, at.nodules, strict=True):
        volume[at.inside((z, y, side + x), (0.07, 0.13, 0.13))] = TISSUE


def _effusion(volume: np.ndarray, at: Anatomy) -> None:
    volume[at.lungs & (volume < -600) & (at.y > at.fluid_level) & (at.z < 0.65)] = FLUID


def _arterial_calcification(volume: np.ndarray, at: Anatomy) -> None:
    for angle, z in zip(*at.lime, strict=True):
        y, x = AORTA[0] + 0.08 * np.sin(angle), AORTA[1] + 0.08 * np.cos(angle)
        volume[at.inside((z, y, x), (0.07, 0.09, 0.09))] = LIME


def _medical_material(volume: np.ndarray, at: Anatomy) -> None:
    volume[at.inside((0.6, -0.22, 0.02), (0.45, 0.1, 0.1))] = METAL  # a lead
    volume[at.inside((0.7, -0.46, 0.4), (0.25, 0.08, 0.2))] = METAL  # its generator


# The structure of each visible label. A large heart is drawn with the anatomy, which makes way for it.
CARDIOMEGALY = "Cardiomegaly"
STRUCTURES: dict[str, Callable[[np.ndarray, Anatomy], None]] = {
    "Emphysema": _emphysema,
    "Lung nodule": _nodule,
    "Pleural effusion": _effusion,
    "Arterial wall calcification": _arterial_calcification,
    "Medical material": _medical_material,
}
VISIBLE = (CARDIOMEGALY, *STRUCTURES)


def make_volume(rng: np.random.Generator, labels: set[str], size: Size) -> np.ndarray:
    """One CT as float32 Hounsfield units (Z, Y, X), running to the patient's head, back and left; without noise.

    The random numbers drawn don't depend on the labels: the same ``rng`` gives the same chest with and without them.

    Args:
        rng: source of all random numbers.
        labels: names of the positive labels; those not in `VISIBLE` change nothing.
        size: grid of the volume.
    """
    at = Anatomy(rng, size)
    volume = np.full(size.shape, AIR, np.float32)
    volume[at.body] = FAT
    volume[at.inside((0.5, 0, 0), (9, 0.54, 0.8))] = TISSUE
    volume[at.lungs] = LUNG + 30 * at.texture[at.lungs]
    volume[at.inside((0.5, 0.44, 0), (9, 0.1, 0.1))] = BONE
    heart = 1.6 if CARDIOMEGALY in labels else 1.0
    volume[at.inside((0.42, -0.12, 0.06), (0.24 * heart, 0.2 * heart, 0.25 * heart))] = BLOOD
    volume[at.aorta] = BLOOD
    for name, draw in STRUCTURES.items():
        if name in labels:
            draw(volume, at)
    volume[:, int(0.88 * size.shape[1]) :, size.shape[2] // 6 : -size.shape[2] // 6] = -700  # the table
    return volume


def make_demo(output: str | Path, seed: int = 0, size: str = "small", counts: tuple[int, int] = (72, 16)) -> Path:
    """Write a CT-RATE-like dataset below ``output``: all files appear at once, or none.

    ``<output>/dataset/{train,valid}/train_1/train_1_a/train_1_a_1.nii.gz`` with label and metadata tables. Every third
    patient has a second scan, every fourth a second reconstruction of the first. As in CT-RATE, volumes differ in how
    they store Hounsfield units (slope and intercept in the header, in the metadata table only, or none needed), and in
    the order and tilt of their axes. The same arguments give the same bytes; a folder made with them before is kept.

    Args:
        output: folder, created where it doesn't exist.
        seed: of all random numbers, at least 0.
        size: "small" (40 x 64 x 64 voxels) or "full" (240 x 512 x 512).
        counts: patients of CT-RATE's training and validation sets; each visible label is positive in 40 % of both.

    Returns:
        ``output``, usable as ``dataset_dir``.

    Raises:
        ConfigError: for an unknown size, or no patient.
        DataError: when other data lie at the target already.
    """
    shape = known_size(SIZES, size)
    if min(counts) < 0 or sum(counts) < 1:
        raise ConfigError(f"make_demo: counts must hold at least one patient, got {counts}")
    settings = {"generated": "not patient data", "seed": seed, "size": size, "counts": list(counts)}
    write_folder(Path(output) / FOLDER, settings, lambda folder: _write(folder, seed, shape, counts))
    return Path(output)


def _write(root: Path, seed: int, size: Size, counts: tuple[int, int]) -> None:
    for part, (split, metadata, count) in enumerate(
        zip(("train", "valid"), ("train", "validation"), counts, strict=True)
    ):
        if not count:
            continue
        labels, tables = _draw_labels(np.random.default_rng([seed, part]), count), []
        rows: list[dict[str, Any]] = []
        for number, positive in enumerate(labels, start=1):
            for name, scan, noise in _volumes_of(f"{split}_{number}", number):
                hounsfield = make_volume(np.random.default_rng([seed, part, number, scan]), positive, size)
                rng = np.random.default_rng([seed, part, number, scan, noise])
                folder = root / split / f"{split}_{number}" / name.rsplit("_", 1)[0]
                folder.mkdir(parents=True, exist_ok=True)
                rows.append({"VolumeName": name, **_save(folder / name, hounsfield, rng, size)})
                tables.append({"VolumeName": name, **{label: int(label in positive) for label in LABELS}})
        write_csv(root / "multi_abnormality_labels" / f"{split}_predicted_labels.csv", tables)
        write_csv(root / "metadata" / f"{metadata}_metadata.csv", rows)


def _draw_labels(rng: np.random.Generator, count: int) -> list[set[str]]:
    """The positive labels of each patient."""
    labels: list[set[str]] = [set() for _ in range(count)]
    for name in VISIBLE:
        for patient in rng.permutation(count)[: round(POSITIVE_SHARE * count)]:
            labels[patient].add(name)
    return labels


def _volumes_of(patient: str, number: int) -> Iterator[tuple[str, int, int]]:
    """Name, scan and reconstruction of a patient's volumes."""
    yield f"{patient}_a_1.nii.gz", 0, 0
    if number % 4 == 0:
        yield f"{patient}_a_2.nii.gz", 0, 1
    if number % 3 == 0:
        yield f"{patient}_b_1.nii.gz", 1, 0


def _save(path: Path, hounsfield: np.ndarray, rng: np.random.Generator, size: Size) -> dict[str, Any]:
    """Write one volume in one of the variants of CT-RATE; returns the rest of its row of the metadata table."""
    import nibabel as nib

    noisy = np.clip(hounsfield + rng.normal(0, rng.uniform(10, 30), hounsfield.shape), -1024, 3071)
    kind, turn = int(rng.integers(3)), int(rng.integers(4))
    # in the header as well, in the table only, or none needed
    slope, intercept = ((1.0, -1024.0), (1.0, -8192.0), (1.0, 0.0))[kind]
    array = np.rint(noisy - intercept).astype(np.float32 if kind == 2 else np.int16).transpose(2, 1, 0)
    array, affine = _turned(array, turn, size)
    image = nib.Nifti1Image(np.ascontiguousarray(array), affine)
    image.header.set_xyzt_units("mm")
    if kind == 0:
        image.header.set_slope_inter(slope, intercept)
    nib.save(image, path)
    z, y, x = size.spacing
    return {"RescaleSlope": slope, "RescaleIntercept": intercept, "XYSpacing": f"[{y}, {x}]", "ZSpacing": z}


def _turned(array: np.ndarray, turn: int, size: Size) -> tuple[np.ndarray, np.ndarray]:
    """The array (X, Y, Z; left, back, head) in another frame, and its affine: LPS, RAS, head first, or tilted."""
    z, y, x = size.spacing
    affine = np.diag([-x, -y, z, 1.0])
    for axis in ((), (0, 1), (2,), ())[turn]:
        affine[:3, 3] += affine[:3, axis] * (array.shape[axis] - 1)
        affine[:3, axis] *= -1
        array = np.flip(array, axis)
    if turn == 3:
        c, s = np.cos(0.2), np.sin(0.2)
        affine = np.array([[1, 0, 0, 0], [0, c, -s, 0], [0, s, c, 0], [0, 0, 0, 1]]) @ affine
    return array, affine
