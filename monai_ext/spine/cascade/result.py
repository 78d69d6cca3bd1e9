"""The result of the cascade for one series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import ndimage

from monai_ext.spine import SeriesImage

# Slices are far apart: voxels that touch at a corner are connected.
_TOUCHING = ndimage.generate_binary_structure(3, 3)


@dataclass(frozen=True)
class Lesion:
    """One connected lesion.

    Args:
        voxels: number of voxels.
        volume_mm3: volume in mm³; None for a series without geometry.
        slices: indices along the series' slice axis, from 0, as in the written mask.
    """

    voxels: int
    volume_mm3: float | None
    slices: tuple[int, ...]


@dataclass(frozen=True)
class StageDecision:
    """Decision of one stage.

    Args:
        stage: its name.
        admitted: whether the series went on to the next stage.
        reason: why it didn't, or why the stage was left out; else empty.
        seconds: duration of the stage.
        details: labels, votes, thresholds; plain values.
        table: probabilities or areas, one row per slice.
    """

    stage: str
    admitted: bool
    reason: str = ""
    seconds: float = 0.0
    details: Mapping[str, Any] = field(default_factory=dict)
    table: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Findings:
    """Masks and lesions of an admitted series; all arrays (N, Y, X), in the order of `SeriesImage.slices`.

    Args:
        cord: mask, bool.
        lesion: mask, bool.
        cord_probability: float32, 0 to 1; 0 on slices that weren't selected.
        lesion_probability: float32, 0 to 1; 0 on slices that weren't selected.
        lesions: connected components of ``lesion``, largest first.
    """

    cord: np.ndarray
    lesion: np.ndarray
    cord_probability: np.ndarray
    lesion_probability: np.ndarray
    lesions: tuple[Lesion, ...]


@dataclass(frozen=True)
class CascadeResult:
    """Result of the cascade for one series.

    Args:
        decisions: in the order of the stages, up to the one that refused it.
        findings: masks and lesions of an admitted series; else None.
    """

    decisions: tuple[StageDecision, ...]
    findings: Findings | None = None

    @property
    def admitted(self) -> bool:
        """Whether all stages admitted the series."""
        return self.findings is not None

    @property
    def reason(self) -> str:
        """Which stage refused the series and why; empty when none did."""
        refused = [one for one in self.decisions if not one.admitted]
        return f"{refused[0].stage}: {refused[0].reason}" if refused else ""


def find_lesions(mask: np.ndarray, image: SeriesImage, min_size: float) -> tuple[np.ndarray, tuple[Lesion, ...]]:
    """Connected components of a mask (26 neighbours), without the small ones.

    Args:
        mask: bool (N, Y, X), in the order of `SeriesImage.slices`.
        image: its series.
        min_size: smallest volume in mm³ (in voxels without geometry).

    Returns:
        The mask of the remaining lesions, and the lesions, largest first.
    """
    parts, count = ndimage.label(mask, _TOUCHING)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
    large = sizes * image.voxel_volume >= min_size
    numbers, boxes = file_slices(image), ndimage.find_objects(parts)
    lesions = [
        Lesion(
            int(sizes[index]),
            round(float(sizes[index] * image.voxel_volume), 3) if image.has_geometry else None,
            # A connected component has voxels in all slices from its first to its last.
            tuple(sorted(int(number) for number in numbers[boxes[index][0]])),
        )
        for index in np.flatnonzero(large)
    ]
    return np.concatenate([[False], large])[parts], tuple(sorted(lesions, key=lambda one: -one.voxels))


def file_slices(image: SeriesImage) -> np.ndarray:
    """Index along the slice axis of the file of each slice of `SeriesImage.slices`."""
    count, _, height, width = image.slices().shape
    numbers = image.restore(np.broadcast_to(np.arange(count)[:, None, None], (count, height, width)))
    in_file = np.moveaxis(numbers, image.slice_axis, 0)[:, 0, 0]
    return np.argsort(in_file)
