"""Small, learnable synthetic CT of a scroll: a volume of wound, wavy sheets with labels and normals.

The sheets are where a smooth field, the number of turns around the scroll's axis, is an integer; so distances from a
sheet and its normals are exact. A sheet's inner side is bright and sharp, and it fades outwards: a patch alone shows
which way the normals point, as the fibres of the two sides do in papyrus. Use it to try out a training run, never for a
statement about real scrolls.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from monai_ext.data import encode_normals
from monai_ext.data.demo_folder import known_size, write_folder

# One block after the other is made and written: a whole shard of the input at each level, whole chunks of the labels.
BLOCK, CHUNK, LEVELS = 128, 32, 3
VOXEL_UM = 7.91
Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Size:
    """Size of the demo.

    Args:
        shape: voxels of the volume along Z, Y, X.
        patch: voxels along Z, Y, X of the patches that the labelled regions are made for.
        regions: number of labelled regions along Z, Y, X.
        pitch: distance of the sheets in voxels.
        thickness: of a sheet in voxels.
    """

    shape: tuple[int, int, int]
    patch: tuple[int, int, int]
    regions: tuple[int, int, int]
    pitch: float
    thickness: float

    def boxes(self) -> list[Box]:
        """Labelled regions: 1.5 patches long, at least one apart, in step with half a patch as patches are searched."""
        axes = []
        for length, patch, count in zip(self.shape, self.patch, self.regions, strict=True):
            edge, step = patch * 3 // 2, patch // 2
            period = (length - edge) // max(count - 1, 1) // step * step
            first = (length - edge - period * (count - 1)) // 2
            axes.append([slice(first + period * i, first + period * i + edge) for i in range(count)])
        return list(itertools.product(*axes))


SIZES = {
    "small": Size((128, 256, 256), (32, 48, 48), (2, 2, 2), pitch=10.0, thickness=3.5),
    "full": Size((512, 1024, 1024), (64, 192, 192), (3, 2, 2), pitch=20.0, thickness=4.0),
}


class Waves:
    """Sum of plane waves, a smooth random field that can be computed in any box by itself.

    Args:
        rng: draws directions, lengths and phases.
        count: number of waves.
        lengths: shortest and longest wavelength in voxels.
        slope: largest slope of a single wave; its amplitude is that times length / 2π.
    """

    def __init__(self, rng: np.random.Generator, count: int, lengths: tuple[float, float], slope: float) -> None:
        directions = rng.standard_normal((count, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        numbers = 2 * np.pi / rng.uniform(*lengths, (count, 1))
        self.vectors = numbers * directions
        self.factors = slope / numbers[:, 0] * np.exp(2j * np.pi * rng.random(count))

    def value(self, axes: Sequence[np.ndarray]) -> np.ndarray:
        """Values (Z, Y, X) on the grid of these coordinates, float32.

        Args:
            axes: coordinates in voxels along z, y and x.
        """
        return self._sum(self.factors[None], axes)[0]

    def value_and_gradient(self, axes: Sequence[np.ndarray]) -> np.ndarray:
        """The value and its derivatives along z, y and x: (4, Z, Y, X), float32.

        Args:
            axes: coordinates in voxels along z, y and x.
        """
        return self._sum(np.stack([self.factors, *(1j * self.vectors.T * self.factors)]), axes)

    def _sum(self, factors: np.ndarray, axes: Sequence[np.ndarray]) -> np.ndarray:
        # exp(i k·p) is a product of the axes', and the real part of the sum one product of real matrices
        along = [np.exp(1j * np.outer(k, axis)) for k, axis in zip(self.vectors.T, axes, strict=True)]
        left = factors[:, None] * along[0].T
        right = along[1][:, :, None] * along[2][:, None]
        left, right = np.concatenate([left.real, -left.imag], -1), np.concatenate([right.real, right.imag])
        shape = (len(factors), *(len(axis) for axis in axes))
        return (left.astype(np.float32) @ right.reshape(len(right), -1).astype(np.float32)).reshape(shape)


class Scroll:
    """A volume of sheets wound about an axis along z; any box of it can be computed by itself.

    Args:
        seed: of all random numbers, at least 0.
        size: of the volume, see `SIZES`.
    """

    def __init__(self, seed: int, size: Size) -> None:
        rng = np.random.default_rng(seed)
        self.seed, self.size = seed, size
        self.centre = np.array(size.shape[1:]) / 2 + rng.uniform(-0.4, 0.4, 2) * size.pitch
        # eight slopes of 0.12 never add up to 1: turns grow outwards everywhere
        self.waves = Waves(rng, 8, (8 * size.pitch, 20 * size.pitch), 0.12)
        self.texture = Waves(rng, 12, (4.0, 12.0), 0.12)
        self.light = Waves(rng, 3, (1.0 * min(size.shape), 2.0 * min(size.shape)), 0.15 / min(size.shape))

    def turns(self, box: Box) -> np.ndarray:
        """Turns around the axis and their derivatives along z, y, x: (4, Z, Y, X), float32; sheets at integers.

        Args:
            box: slices along z, y, x.
        """
        axes = _coordinates(box)
        field = self.waves.value_and_gradient(axes)
        y, x = (axis - middle for axis, middle in zip(axes[1:], self.centre, strict=True))
        y, x = y[:, None], x[None]
        # the axis itself has no direction; it lies in the hollow core
        radius = np.maximum(np.hypot(y, x), 1)
        field[0] += radius
        field[2] += y / radius
        field[3] += x / radius
        field /= self.size.pitch
        field[0] -= np.arctan2(y, x) / (2 * np.pi)
        field[2] -= x / radius**2 / (2 * np.pi)
        field[3] += y / radius**2 / (2 * np.pi)
        return field

    def sheets(self, box: Box) -> tuple[np.ndarray, np.ndarray]:
        """Distance to the next sheet in voxels, positive outwards (Z, Y, X), and outward unit normals (Z, Y, X, 3).

        Args:
            box: slices along z, y, x.
        """
        turns, *gradient = self.turns(box)
        steepness = np.sqrt(sum(part**2 for part in gradient))
        normals = np.stack(gradient[::-1], axis=-1) / steepness[..., None]
        return (turns - np.rint(turns)) / steepness, normals

    def image(self, box: Box, distance: np.ndarray) -> np.ndarray:
        """Intensities (Z, Y, X) as uint8.

        Args:
            box: slices along z, y, x.
            distance: the distances of `sheets` in this box.
        """
        axes = _coordinates(box)
        behind = distance + self.size.thickness / 2
        # the inner side rises within a voxel, the outer one falls over one and a half thicknesses
        papyrus = np.clip(behind + 0.5, 0, 1) * np.clip(1 - behind / (1.5 * self.size.thickness), 0, 1)
        papyrus *= 1 + 0.5 * self.texture.value(axes)
        core = np.hypot(axes[1][:, None] - self.centre[0], axes[2][None] - self.centre[1]) < 2 * self.size.pitch
        papyrus[:, core] = 0
        noise = np.random.default_rng([self.seed, *(part.start for part in box)])
        grey = (60 + 110 * papyrus) * (1 + self.light.value(axes))
        grey += 10 * noise.standard_normal(grey.shape, dtype=np.float32)
        return np.clip(np.rint(grey), 0, 255).astype(np.uint8)


def make_demo(output: str | Path, seed: int = 0, size: str = "small") -> Path:
    """Write a set of volumes below ``output``: all files appear at once, or none.

    ``<output>/scroll_1/input.zarr`` is an OME-Zarr 0.5 image (uint8, three levels, sharded),
    ``sheet.zarr`` a Zarr v3 array (Z, Y, X) of 0 and 255, ``normals.zarr`` a Zarr v2 array (Z, Y, X, 3) as
    `encode_normals` stores them, (0, 0, 0) off the sheets. Labels are sparse: only the chunks around a few regions are
    stored, and no patch of the intended size touches two of them. The same arguments give the same bytes; a folder made
    with them before is kept as it is.

    Args:
        output: folder, created where it doesn't exist.
        seed: of all random numbers, at least 0.
        size: "small" (128 x 256 x 256 voxels, for patches of 32 x 48 x 48) or "full" (512 x 1024 x 1024, for
            64 x 192 x 192).

    Returns:
        ``output``, usable as ``dataset_dir``.

    Raises:
        ConfigError: for an unknown size.
        DataError: when other data lie at the target already.
    """
    scroll = Scroll(seed, known_size(SIZES, size))
    settings = {"generated": "not real data", "seed": seed, "size": size}
    write_folder(output, settings, lambda folder: _write(folder / "scroll_1", scroll))
    return Path(output)


def _write(folder: Path, scroll: Scroll) -> None:
    size, half = scroll.size, scroll.size.thickness / 2
    levels = _input_levels(folder / "input.zarr", size.shape)
    sheet = zarr.create_array(
        folder / "sheet.zarr", shape=size.shape, chunks=(CHUNK,) * 3, dtype="uint8", compressors=_zstd(), fill_value=0
    )
    codec: dict[str, Any] = {"id": "zstd", "level": 3, "checksum": True}
    normals = zarr.create_array(
        folder / "normals.zarr",
        shape=(*size.shape, 3),
        chunks=(CHUNK, CHUNK, CHUNK, 3),
        dtype="uint16",
        compressors=codec,
        fill_value=0,
        zarr_format=2,
    )
    for block in _blocks(size.shape):
        distance, directions = scroll.sheets(block)
        image = scroll.image(block, distance)
        for level, array in enumerate(levels):
            array[tuple(slice(part.start >> level, part.stop >> level) for part in block)] = _shrunk(image, 2**level)
        for box in size.boxes():
            place = tuple(slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(block, box, strict=True))
            if any(part.start >= part.stop for part in place):
                continue
            inner = tuple(slice(p.start - b.start, p.stop - b.start) for p, b in zip(place, block, strict=True))
            labelled = np.abs(distance[inner]) <= half
            sheet[place] = labelled * np.uint8(255)
            normals[place] = encode_normals(directions[inner] * labelled[..., None])


def _input_levels(path: Path, shape: tuple[int, int, int]) -> list[zarr.Array]:
    """The arrays of an OME-Zarr 0.5 image, finest first, each half as large as the one before."""
    datasets: list[dict[str, Any]] = []
    arrays = []
    group = zarr.open_group(path, mode="w", zarr_format=3)
    for level in range(LEVELS):
        arrays.append(
            group.create_array(
                str(level),
                shape=tuple(length >> level for length in shape),
                chunks=(CHUNK,) * 3,
                shards=(BLOCK >> level,) * 3,
                dtype="uint8",
                compressors=_zstd(),
                dimension_names=("z", "y", "x"),
            )
        )
        # a coarse voxel lies in the middle of those it is the mean of
        scale, shift = VOXEL_UM * 2**level, VOXEL_UM * (2**level - 1) / 2
        transforms = [{"type": "scale", "scale": [scale] * 3}, {"type": "translation", "translation": [shift] * 3}]
        datasets.append({"path": str(level), "coordinateTransformations": transforms})
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    image: dict[str, Any] = {"name": "input", "axes": axes, "datasets": datasets}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [image]}
    return arrays


def _zstd() -> ZstdCodec:
    return ZstdCodec(level=3, checksum=True)


def _blocks(shape: Sequence[int]) -> Iterator[Box]:
    axes = [[slice(start, min(start + BLOCK, length)) for start in range(0, length, BLOCK)] for length in shape]
    yield from itertools.product(*axes)


def _shrunk(image: np.ndarray, factor: int) -> np.ndarray:
    """Means of cubes with edges of ``factor`` voxels."""
    z, y, x = (length // factor for length in image.shape)
    return image.reshape(z, factor, y, factor, x, factor).mean(axis=(1, 3, 5)).round().astype(image.dtype)


def _coordinates(box: Box) -> list[np.ndarray]:
    return [np.arange(part.start, part.stop, dtype=np.float64) for part in box]
