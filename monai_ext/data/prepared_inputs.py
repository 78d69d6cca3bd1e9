"""Prepared inputs as the network gets them, each summed up in a few numbers that a check can compare."""

from __future__ import annotations

import copy
import hashlib
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from monai_ext.arrays import to_numpy
from monai_ext.blocks import run_in_order
from monai_ext.data.problems import Problem
from monai_ext.errors import DataError
from monai_ext.places import Place, Threads

# Enough for percentiles and a histogram; more would take long on large volumes.
_MOST_VOXELS = 200_000
# Voxels along each axis of the small copies that are correlated with each other.
_SMALL = {2: 32, 3: 16}


@dataclass(frozen=True)
class PreparedInput:
    """Summary of one prepared input.

    Args:
        section: of the split, such as "train".
        index: number of the item in its section.
        case: name of its case.
        patient: name of its patient; that of the case where none is known.
        label: of the item: a class number, a tuple of 0 and 1, or ``None``.
        files: files that the input was read from.
        shape: (C, spatial axes).
        low, high: least and greatest value.
        spread: between the percentiles 0.1 and 99.9.
        at_high: fraction of voxels that have the greatest value.
        filled: least fraction of planes, over the spatial axes, with anything but the value in the last corner, which
            is that of padding.
        finite: whether no value is NaN or infinite.
        flat: numbers of the channels with one value everywhere.
        digest: of all values.
        small: flattened copy of few voxels.
        empty: names of masks and target maps in the item that have nothing but zeros; those that have more are in
            ``marked``.
        marked: see ``empty``.
    """

    section: str
    index: int
    case: str
    patient: str
    label: Any
    files: tuple[str, ...]
    shape: tuple[int, ...]
    low: float
    high: float
    spread: float
    at_high: float
    filled: float
    finite: bool
    flat: tuple[int, ...]
    digest: str
    small: np.ndarray
    empty: tuple[str, ...] = ()
    marked: tuple[str, ...] = ()

    @property
    def constant(self) -> bool:
        return self.low == self.high

    @property
    def range(self) -> str:
        """Least and greatest value as text."""
        return f"{self.low:.4g} to {self.high:.4g}"


def sum_up(section: str, index: int, item: Mapping[str, Any], prepared: Mapping[str, Any]) -> PreparedInput:
    """Sum up a prepared input.

    Args:
        section: of the split, such as "train".
        index: number of the item in its section.
        item: of the data list, with ``image``, and perhaps ``case``, ``patient`` and ``label``.
        prepared: the same after the preparation, with ``image`` (C, spatial axes).
    """
    image = to_numpy(prepared["image"], np.float32)
    finite = bool(np.isfinite(image).all())
    known = image if finite else np.nan_to_num(image, posinf=0, neginf=0)
    voxels = known.reshape(-1)[:: max(1, known.size // _MOST_VOXELS)]
    low, high = float(known.min()), float(known.max())
    channels = known.reshape(len(known), -1)
    ends = np.percentile(voxels, (0.1, 99.9))
    case = str(item.get("case", prepared.get("case", index)))
    masks = {
        name: bool((value != 0).any())
        for name, value in prepared.items()
        if name != "image" and torch.is_tensor(value) and value.ndim > 2
    }
    return PreparedInput(
        section,
        index,
        case,
        str(item.get("patient", case)),
        plain_label(item.get("label", prepared.get("label"))),
        tuple(files_of(item.get("image"))),
        tuple(known.shape),
        low,
        high,
        float(ends[1] - ends[0]),
        float((voxels == high).mean()),
        _filled(known),
        finite,
        tuple(np.flatnonzero(channels.min(axis=1) == channels.max(axis=1)).tolist()),
        hashlib.blake2b(np.ascontiguousarray(known).tobytes(), digest_size=16).hexdigest(),
        _small(known),
        tuple(name for name, marked in masks.items() if not marked),
        tuple(name for name, marked in masks.items() if marked),
    )


def chosen_items(data: Mapping[str, Sequence[Any]], most: int | None) -> list[tuple[str, int]]:
    """Section and number of the items to look at: all, or ``most`` of them, evenly spread over the sections.

    Args:
        data: section → items.
        most: how many; ``None`` for all.
    """
    places = [(section, index) for section, items in data.items() for index in range(len(items))]
    if most is None or most >= len(places):
        return places
    return [places[number] for number in np.linspace(0, len(places) - 1, most).round().astype(int)] if most else []


def prepare_inputs(
    dataset: Any, data: Mapping[str, Sequence[Any]], places: Sequence[tuple[str, int]], workers: int | None = None
) -> tuple[list[PreparedInput], list[Problem]]:
    """Prepare items as a validation does, without augmentation, and sum them up; what fails is a problem.

    Args:
        dataset: with ``set_data`` and the transforms of the validation.
        data: section → items.
        places: section and number of the items, see `chosen_items`.
        workers: threads; default one per CPU, at most 8.
    """
    own = threading.local()  # transforms with caches or random states are not for two threads

    def work(place: tuple[str, int]) -> PreparedInput | Problem:
        section, index = place
        if not hasattr(own, "datasets"):
            own.datasets = {}
        if section not in own.datasets:
            own.datasets[section] = over(dataset, data[section])
        item = own.datasets[section].data[index]
        try:
            return sum_up(section, index, item, own.datasets[section][index])
        except Exception as error:  # whatever a transform raises, a training would end with it
            case = str(item.get("case", index))
            known = error if isinstance(error, DataError) else DataError(f"{type(error).__name__}: {error}", case)
            return Problem.of(known, case, code="not-prepared")

    place: Place = Threads(min(8, len(os.sched_getaffinity(0))) if workers is None else workers)
    found = run_in_order(work, places, place, "preparing")
    return [one for one in found if isinstance(one, PreparedInput)], [one for one in found if isinstance(one, Problem)]


def over(dataset: Any, items: Sequence[Any]) -> Any:
    """A copy of a data set over other items, with transforms of its own.

    Args:
        dataset: with ``set_data`` and ``transform``.
        items: of the data list.
    """
    other = copy.copy(dataset)
    other.transform = copy.deepcopy(dataset.transform)
    other.set_data(items)
    return other


def files_of(image: Any) -> Iterator[str]:
    """Files or folders in an item's ``image``: a path, anything with ``__fspath__``, or lists of these."""
    if isinstance(image, str | os.PathLike):
        yield os.fspath(image)
    elif isinstance(image, list | tuple):
        for one in image:
            yield from files_of(one)


def plain_label(label: Any) -> Any:
    """A label in a form that can be compared: a class number or a tuple of 0 and 1; ``None`` for masks or nothing."""
    if label is None or np.ndim(label) > 1:
        return None
    return tuple(int(value > 0) for value in to_numpy(label)) if np.ndim(label) else int(label)


def _filled(image: np.ndarray) -> float:
    inside = (image != image.reshape(len(image), -1)[:, -1].reshape(-1, *[1] * (image.ndim - 1))).any(axis=0)
    axes = range(inside.ndim)
    return min(float(inside.any(axis=tuple(other for other in axes if other != axis)).mean()) for axis in axes)


def _small(image: np.ndarray) -> np.ndarray:
    values = torch.from_numpy(image.mean(axis=0) if image.ndim > 2 else image)
    edge = _SMALL.get(values.ndim, 16)
    pools: dict[int, Any] = {2: torch.nn.functional.adaptive_avg_pool2d, 3: torch.nn.functional.adaptive_avg_pool3d}
    size = [min(edge, length) for length in values.shape]
    small = pools[values.ndim](values[None], size) if values.ndim in pools else values
    return small.numpy().reshape(-1).astype(np.float32)
