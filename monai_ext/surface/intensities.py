"""Intensities of the labelled voxels, measured once for nnU-Net's CT normalisation."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from monai_ext.data.cached_file import cached
from monai_ext.data.patches_blocks import LabelBlocks
from monai_ext.data.volume_view import Volume
from monai_ext.data.volumes_zarr import open_volume, volume_identity
from monai_ext.errors import ConfigError, DataError

SCHEMES = ("ct", "zscore")
PERCENTILES = (0.5, 99.5)
# Values of integers up to 16 bits, signed or not.
_LOWEST, _HIGHEST = -(1 << 15), (1 << 16) - 1
_SAMPLE = 1 << 20


def intensity(
    sets: Sequence[Mapping[str, str]], scheme: str, file: str | Path, ignore_label: float | None = None
) -> dict[str, float] | None:
    """Statistics for nnU-Net's CT normalisation (arXiv:1904.08128); none for a z-score.

    Measured over all voxels whose reference label is neither 0 nor ``ignore_label``, of all sets, and kept in ``file``
    until the data change. Exact for integers of up to 16 bits. Otherwise a sample of 2²⁰ voxels is drawn, the same for
    the same data (nnU-Net draws 10⁸ voxels over all cases, with the same percentiles).

    Args:
        sets: see `volume_sets`; ``input`` and ``ref_label`` are read.
        scheme: "ct", or "zscore" (each patch with its own mean and standard deviation).
        file: JSON that keeps the result; its folder is created.
        ignore_label: value of a reference label that is no label; None for none.

    Returns:
        ``{"lower", "upper", "mean", "std"}`` for "ct": the percentiles 0.5 and 99.5 to clip to, and mean and standard
        deviation before clipping; None for "zscore".

    Raises:
        ConfigError: for another scheme.
        DataError: when nothing is labelled, a labelled voxel is NaN or infinite, a chunk can't be read, or all labelled
            voxels are equal.
        WriteError: when ``file`` can't be written.
    """
    if scheme not in SCHEMES:
        raise ConfigError(f"intensity: scheme must be one of {SCHEMES}, got {scheme!r}")
    if scheme == "zscore":
        return None
    made_from = {
        "percentiles": list(PERCENTILES),
        "volumes": [{key: volume_identity(entry[key]) for key in ("input", "ref_label")} for entry in sets],
        "ignore_label": ignore_label,
    }
    return cached(Path(file), made_from, lambda: _measure(sets, ignore_label), "intensities are measured again")


def _measure(sets: Sequence[Mapping[str, str]], ignore_label: float | None) -> dict[str, float]:
    arrays = [open_volume(entry["input"]) for entry in sets]
    small = all(array.dtype.kind in "iu" and array.dtype.itemsize <= 2 for array in arrays)
    values: _Histogram | _Sample = _Histogram() if small else _Sample(_SAMPLE)
    for number, (entry, array) in enumerate(zip(sets, arrays, strict=True)):
        _add(values, number, array, entry, ignore_label)
    if not values.count:
        raise DataError("no voxel is labelled, so there are no intensities to measure", sets[0]["ref_label"])
    figures = values.figures()
    if not figures["std"]:
        raise DataError(f"all labelled voxels have the value {figures['mean']:g}; is this the image?", sets[0]["input"])
    return figures


def _add(
    values: _Histogram | _Sample, number: int, array: Volume, entry: Mapping[str, str], ignore_label: float | None
) -> None:
    def add(start: np.ndarray, labelled: np.ndarray) -> None:
        if not labelled.any():
            return
        stop = np.minimum(start + labelled.shape, array.shape)
        try:
            found = np.asarray(array[tuple(map(slice, start, stop))])[labelled]
        except Exception as error:  # each codec and store has its own
            raise DataError(
                f"the block at {tuple(start.tolist())} can't be read ({type(error).__name__}: {error}); is the file "
                "damaged?",
                entry["input"],
            ) from error
        if found.dtype.kind == "f" and not np.isfinite(found).all():
            raise DataError(
                f"labelled voxels in the block at {tuple(start.tolist())} are NaN or infinite; repair the volume, or "
                "clear the labels there",
                entry["input"],
            )
        values.add(found, (number, *start.tolist()))

    label = entry["ref_label"]
    LabelBlocks(open_volume(label), name=label, ignore_label=ignore_label).for_each(add, "intensities")


class _Histogram:
    """Histogram of integers of up to 16 bits: exact, and independent of the order of the blocks."""

    def __init__(self) -> None:
        self._counts = np.zeros(_HIGHEST - _LOWEST + 1, np.int64)
        self._lock = threading.Lock()

    @property
    def count(self) -> int:
        return int(self._counts.sum())

    def add(self, values: np.ndarray, place: tuple[int, ...]) -> None:
        low = int(values.min())
        counts = np.bincount(values.astype(np.int64) - low)
        with self._lock:
            self._counts[low - _LOWEST :][: len(counts)] += counts

    def figures(self) -> dict[str, float]:
        total = self.count
        values = np.arange(_LOWEST, _HIGHEST + 1)
        mean = float(self._counts @ values / total)
        spread = float(self._counts @ (values - mean) ** 2 / total)
        lower, upper = (self._at(percentile / 100 * (total - 1)) for percentile in PERCENTILES)
        return {"lower": lower, "upper": upper, "mean": mean, "std": spread**0.5}

    def _at(self, rank: float) -> float:
        """Between the two sorted values about ``rank``, as numpy's percentile."""
        below = int(rank)
        ends = np.cumsum(self._counts)
        first, second = (
            int(np.searchsorted(ends, place, side="right")) + _LOWEST for place in (below, min(below + 1, ends[-1] - 1))
        )
        return first + (second - first) * (rank - below)


class _Sample:
    """At most ``size`` values, those with the smallest random keys: independent of the order of the blocks."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._keys, self._values = np.empty(0), np.empty(0)
        self._lock = threading.Lock()

    @property
    def count(self) -> int:
        return len(self._values)

    def add(self, values: np.ndarray, place: tuple[int, ...]) -> None:
        keys = np.random.default_rng(place).random(len(values))
        with self._lock:
            keys = np.concatenate([self._keys, keys])
            found = np.concatenate([self._values, values.astype(np.float64)])
            kept = np.argpartition(keys, self.size)[: self.size] if len(keys) > self.size else slice(None)
            self._keys, self._values = keys[kept], found[kept]

    def figures(self) -> dict[str, float]:
        values = np.sort(self._values)
        lower, upper = np.percentile(values, PERCENTILES).tolist()
        return {"lower": lower, "upper": upper, "mean": float(values.mean()), "std": float(values.std())}
