"""Some inputs as the network gets them, kept whole to be drawn: without and with augmentation."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from monai_ext.arrays import to_numpy
from monai_ext.data.prepared_inputs import PreparedInput, over, sum_up
from monai_ext.data.seeded import SeededDataset

DOZEN = 12
# Seconds for all of them: a picture must not keep a training waiting for long.
_PATIENCE = 60.0


@dataclass(frozen=True)
class ShownInput:
    """One input.

    Args:
        summary: of the plain input.
        label: as text; empty where there is none, or a mask.
        plain: (C, spatial axes), as in a validation.
        augmented: the same item as a training gets it; ``None`` where nothing is trained.
        mask: (spatial axes) of the plain input, True in any mask or target of it; ``None`` without one.
        augmented_mask: the same of the augmented input.
    """

    summary: PreparedInput
    label: str
    plain: np.ndarray
    augmented: np.ndarray | None = None
    mask: np.ndarray | None = None
    augmented_mask: np.ndarray | None = None


def shown_inputs(
    plain: Any, train: Any, items: Sequence[Any], class_names: Sequence[str] = (), section: str = "train"
) -> list[ShownInput]:
    """At most a dozen inputs, evenly spread over different cases; fewer where they take more than a minute.

    Args:
        plain: data set of a validation, with ``set_data``.
        train: data set of the training, over these items; ``None`` for no augmentation.
        items: of the data list.
        class_names: names of the labels.
        section: name of the items' section.
    """
    dataset = over(plain, items)
    augmented = SeededDataset(over(train, items)) if train is not None else None
    end = time.monotonic() + _PATIENCE
    found = []
    for index in _spread(items):
        item, prepared = dataset.data[index], dataset[index]
        summary = sum_up(section, index, item, prepared)
        image, mask = _picture(prepared)
        drawn, moved = _picture(augmented[0, index]) if augmented is not None else (None, None)
        found.append(ShownInput(summary, label_text(summary.label, class_names), image, drawn, mask, moved))
        if time.monotonic() > end:
            break
    return found


def label_text(label: Any, class_names: Sequence[str]) -> str:
    """A label for people: the name of the class, or those of all positive labels.

    Args:
        label: as in `PreparedInput`.
        class_names: names of the labels; numbers for those without.
    """
    if label is None:
        return ""
    numbers = np.flatnonzero(label).tolist() if isinstance(label, tuple) else [int(label)]
    names = [str(class_names[number]) if number < len(class_names) else f"label {number}" for number in numbers]
    return ", ".join(names) or "none"


def _spread(items: Sequence[Any]) -> Iterator[int]:
    first: dict[str, int] = {}
    for index, item in enumerate(items):
        first.setdefault(str(item.get("case", index)) if isinstance(item, Mapping) else str(index), index)
    places = list(first.values())
    # an item of different position in each case: all first crops lie in the same corner
    for number in np.unique(np.linspace(0, len(places) - 1, min(DOZEN, len(places))).round().astype(int)):
        end = places[number + 1] if number + 1 < len(places) else len(items)
        yield (places[number] + end) // 2


def _picture(prepared: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray | None]:
    return to_numpy(prepared["image"], np.float32), _mask(prepared)


def _mask(prepared: Mapping[str, Any]) -> np.ndarray | None:
    shape = prepared["image"].shape[1:]
    masks = [
        to_numpy(value) != 0
        for name, value in prepared.items()
        if name != "image" and torch.is_tensor(value) and value.ndim > 2 and value.shape[1:] == shape
    ]
    return np.any(np.concatenate(masks), axis=0) if masks else None
