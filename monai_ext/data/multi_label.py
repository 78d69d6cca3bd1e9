"""Imbalance of multi-label data: weights of classes and samples, counted on the training set."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from monai_ext.errors import DataError

logger = logging.getLogger(__name__)

Labels = ArrayLike | torch.Tensor | Sequence[Mapping[str, Any]]


def positive_weights(labels: Labels, class_names: Sequence[str] | None = None, key: str = "label") -> torch.Tensor:
    """Negatives per positive of each class, for ``pos_weight`` of `torch.nn.BCEWithLogitsLoss`.

    A class with positives only, or with none, gets 1 and a warning in the log: there is nothing to balance.

    Args:
        labels: matrix (N, C) of 0 and 1, or the training items, which hold their labels (C,) under ``key``.
        class_names: C names, for the warning.
        key: key of the labels in the items.

    Returns:
        Tensor (C,), float32, on the CPU.

    Raises:
        DataError: for no samples, or labels other than 0 and 1.
    """
    matrix = label_matrix(labels, key)
    positives = matrix.sum(axis=0)
    one_sided = (positives == 0) | (positives == len(matrix))
    for number in np.flatnonzero(one_sided).tolist():
        name = class_names[number] if class_names is not None else number
        value = int(positives[number] > 0)
        logger.warning("positive_weights: every training sample has %d for class %r; its weight is 1", value, name)
    weights = np.where(one_sided, 1.0, (len(matrix) - positives) / np.maximum(positives, 1))
    return torch.from_numpy(weights).float()


def sample_weights(labels: Labels, key: str = "label") -> list[float]:
    """Weights by which rare labels are drawn more often, one per sample: for ``weights`` of `SeededLoader`.

    A sample counts by its rarest label, as N / samples with that label. Samples without any label form a class of
    their own.

    Args:
        labels: as for `positive_weights`.
        key: as for `positive_weights`.

    Returns:
        N weights with mean 1.

    Raises:
        DataError: as `positive_weights`.
    """
    matrix = label_matrix(labels, key)
    with_none = np.column_stack([matrix, ~matrix.any(axis=1)])
    inverse = len(matrix) / np.maximum(with_none.sum(axis=0), 1)
    weights = (with_none * inverse).max(axis=1)
    return (weights / weights.mean()).tolist()


def label_matrix(labels: Labels, key: str = "label") -> NDArray[np.bool_]:
    """Labels as bool (N, C).

    Raises:
        DataError: for no samples, items without labels, or labels other than 0 and 1.
    """
    if isinstance(labels, Sequence) and labels and isinstance(labels[0], Mapping):
        without = [number for number, item in enumerate(labels) if key not in item]
        if without:
            raise DataError(f"item {without[0]} has no {key!r}; leave items without labels out of the training set")
        labels = [np.asarray(item[key]) for item in labels]  # type: ignore[index]
    matrix = np.asarray(labels)
    if matrix.ndim != 2 or not matrix.size:
        raise DataError(f"labels must be a matrix (samples, classes) with at least one of each, got {matrix.shape}")
    values = np.unique(matrix)
    if not np.isin(values, (0, 1)).all():
        raise DataError(f"labels must be 0 or 1, got {[value for value in values.tolist() if value not in (0, 1)]}")
    return matrix.astype(bool)
