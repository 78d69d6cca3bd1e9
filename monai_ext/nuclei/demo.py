"""Small, learnable synthetic nuclei as in electron microscopy: TIFF stacks, masks and a class CSV.

All classes are drawn alike (size, position, brightness and contrast of the nucleus, noise, file type) and differ only
in the texture of the chromatin. Within a nucleus the texture has mean 0 and variance 1 whatever the class, so that
neither brightness nor contrast predicts the class. Use it to try out a training run, never for a statement about real
cells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from monai_ext.data.demo_folder import known_size, write_folder
from monai_ext.errors import ConfigError
from monai_ext.io import write_csv

UNCLASSIFIED = 19
# ids as in the wild: from 1, with a gap
NAMES = {1: "Euchromatic", 2: "Heterochromatic clumps", 4: "Reticular", 5: "Speckled", UNCLASSIFIED: "Unclassified"}


@dataclass(frozen=True)
class Size:
    """Size of the nuclei, in voxels.

    Args:
        axis: least and largest length of an axis.
        long_axis: length of the long axis that every fourth nucleus has.
        grain: standard deviation of the Gaussian filter that sets the scale of the textures.
    """

    axis: tuple[int, int]
    long_axis: int
    grain: float


SIZES = {"small": Size((44, 60), 96, 1.0), "full": Size((160, 240), 240, 2.0)}


def _noise(rng: np.random.Generator, shape: Sequence[int], sigma: float) -> np.ndarray:
    """Gaussian random field of unit variance, float32."""
    field = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma)
    return field / field.std()


def _clumps(rng: np.random.Generator, shape: Sequence[int], grain: float) -> np.ndarray:
    return np.tanh(3 * _noise(rng, shape, 3.0 * grain))


def _net(rng: np.random.Generator, shape: Sequence[int], grain: float) -> np.ndarray:
    return -np.sqrt(np.abs(_noise(rng, shape, 2.0 * grain)))


def _speckles(rng: np.random.Generator, shape: Sequence[int], grain: float) -> np.ndarray:
    # without a cap the brightest ones would leave the range of uint8
    return np.minimum(np.exp(0.9 * _noise(rng, shape, 1.8 * grain)), 4.5)


def _grain(rng: np.random.Generator, shape: Sequence[int], grain: float) -> np.ndarray:
    return _noise(rng, shape, 0.8 * grain)


def _mixed(rng: np.random.Generator, shape: Sequence[int], grain: float) -> np.ndarray:
    return sum(TEXTURES[number](rng, shape, grain) for number in (1, 2, 4, 5)) / 2


TEXTURES: dict[int, Callable[[np.random.Generator, Sequence[int], float], Any]] = {
    1: _grain,
    2: _clumps,
    4: _net,
    5: _speckles,
    UNCLASSIFIED: _mixed,
}


def make_nucleus(rng: np.random.Generator, class_id: int, size: Size) -> tuple[np.ndarray, np.ndarray]:
    """One nucleus: image (Z, Y, X) as float32 intensities from 0 to 255, and mask (bool).

    The random numbers for everything but the texture come first, so that they don't depend on the class: the same
    ``rng`` gives each class the same nucleus.

    Args:
        rng: source of all random numbers.
        class_id: a key of `NAMES`.
        size: length of the axes and scale of the texture, in voxels.
    """
    shape = rng.integers(size.axis[0], size.axis[1], 3, endpoint=True).tolist()
    long_axis = int(rng.integers(12))  # every fourth nucleus has one
    if long_axis < 3:
        shape[long_axis] = size.long_axis
    radii = np.multiply(shape, rng.uniform(0.40, 0.46, 3))
    centre = np.multiply(shape, 0.5 + rng.uniform(-0.03, 0.03, 3)) - 0.5
    axes = [((np.arange(n) - c) / r).astype(np.float32) for n, c, r in zip(shape, centre, radii, strict=True)]
    distance = np.sqrt(axes[0][:, None, None] ** 2 + axes[1][:, None] ** 2 + axes[2] ** 2)
    mask = distance < 1 + 0.04 * _noise(rng, shape, 5.0 * size.grain)
    brightness, contrast = rng.uniform(105, 145), rng.uniform(30, 38)
    image = 90 + 9 * _noise(rng, shape, 1.5 * size.grain)
    noise = 6 * rng.standard_normal(shape, dtype=np.float32)

    texture = TEXTURES[class_id](rng, shape, size.grain)
    texture = (texture - texture[mask].mean()) / texture[mask].std()
    image[mask] = brightness + contrast * texture[mask]
    return np.clip(image + noise, 0, 255), mask


def write_nucleus(folder: Path, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> None:
    """Write ``raw`` and ``mask``: mostly plain uint8, some stacks as uint16, some compressed, drawn from ``rng``.

    Args:
        folder: of the sample; it is created.
        image: (Z, Y, X) intensities from 0 to 255.
        mask: (Z, Y, X) bool.
        rng: draws data type and compression.
    """
    import tifffile

    wide = rng.random() < 0.1
    compression = rng.choice(["none", "lzw", "zlib"], p=[0.8, 0.1, 0.1])
    voxels = np.rint(image * 257).astype(np.uint16) if wide else np.rint(image).astype(np.uint8)
    options: dict[str, Any] = {"metadata": None, "photometric": "minisblack"}
    for name in ("raw", "mask"):
        (folder / name).mkdir(parents=True)
    for number, (grey, inside) in enumerate(zip(voxels, mask, strict=True), start=1):
        file = f"slice_{number:04d}.tif"
        tifffile.imwrite(folder / "raw" / file, grey, compression=str(compression), **options)
        tifffile.imwrite(folder / "mask" / file, inside.astype(np.uint8) * 255, **options)


def make_demo(
    output: str | Path, seed: int = 0, size: str = "small", counts: Sequence[int] = (30, 30, 30, 30, 4)
) -> Path:
    """Write a dataset of nuclei as ``output``: all files appear at once, or none.

    ``<output>/0001/{raw,mask}/slice_0001.tif`` and ``<output>/classes.csv`` (``sample_id,class_id,class_name``). The
    same arguments give the same bytes; a folder made with them before is kept as it is.

    Args:
        output: folder, created where it doesn't exist.
        seed: of all random numbers, at least 0.
        size: "small" (44 to 60 voxels per axis, some 96 along one) or "full" (160 to 240).
        counts: nuclei of the classes 1, 2, 4, 5 and 19 (Unclassified).

    Returns:
        ``output``, usable as ``dataset_dir``.

    Raises:
        ConfigError: for an unknown size, or not five counts.
        DataError: when other data lie at the target already.
    """
    if len(counts) != len(NAMES):
        raise ConfigError(f"make_demo: counts must be {len(NAMES)} numbers, one per class, got {list(counts)}")
    voxels = known_size(SIZES, size)
    settings = {"generated": "not real data", "seed": seed, "size": size, "counts": list(counts)}
    write_folder(output, settings, lambda folder: _write(folder, seed, voxels, counts))
    return Path(output)


def _write(root: Path, seed: int, size: Size, counts: Sequence[int]) -> None:
    classes = [class_id for class_id, count in zip(NAMES, counts, strict=True) for _ in range(count)]
    rows = []
    for number, class_id in enumerate(np.random.default_rng(seed).permutation(classes).tolist(), start=1):
        image, mask = make_nucleus(np.random.default_rng([seed, number]), class_id, size)
        write_nucleus(root / f"{number:04d}", image, mask, np.random.default_rng([seed, number, 1]))
        rows.append({"sample_id": f"{number:04d}", "class_id": class_id, "class_name": NAMES[class_id]})
    write_csv(root / "classes.csv", rows)
