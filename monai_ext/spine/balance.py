"""Weights that balance classes of different size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from monai_ext.data.splits import class_counts
from monai_ext.errors import ConfigError


def class_weights(items: Sequence[Mapping[str, Any]], class_names: Sequence[str]) -> torch.Tensor:
    """Weight of each class for `torch.nn.CrossEntropyLoss`: N / (classes · samples of the class), mean over samples 1.

    Args:
        items: the training set, with ``label``.
        class_names: C names; an item's ``label`` is a position in them.

    Returns:
        Tensor (C,), float32, on the CPU.

    Raises:
        ConfigError: when there are no classes (a segmentation).
        DataError: when a class has no sample.
    """
    return torch.tensor(_weights("class_weights", items, class_names))


def class_sample_weights(items: Sequence[Mapping[str, Any]], class_names: Sequence[str]) -> list[float]:
    """Sampling weights that draw all classes equally often, for ``weights`` of `monai_ext.data.SeededLoader`.

    Args:
        items: the training set, with ``label``.
        class_names: C names; an item's ``label`` is a position in them.

    Returns:
        One weight per item, above 0.

    Raises:
        ConfigError: when there are no classes (a segmentation).
        DataError: when a class has no sample.
    """
    weights = _weights("weighted_sampler", items, class_names)
    return [weights[item["label"]] for item in items]


def _weights(option: str, items: Sequence[Mapping[str, Any]], class_names: Sequence[str]) -> list[float]:
    if not class_names:
        raise ConfigError(f"--{option}: is for classifiers; a segmentation has no classes")
    counts = class_counts(items, len(class_names))
    return [len(items) / (len(counts) * count) for count in counts]
