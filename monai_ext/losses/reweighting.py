"""Class weights for deferred re-weighting.

Papers: Cao et al., arXiv:1906.07413 (deferred re-weighting); Cui et al., Class-Balanced Loss Based on Effective
Number of Samples, arXiv:1901.05555.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from monai_ext.losses.ldam import positive_counts

_SCHEMES = ("sqrt", "effective_number")


def drw_weights(class_counts: Sequence[int] | torch.Tensor, scheme: str = "sqrt", beta: float = 0.9999) -> torch.Tensor:
    """Class weights, larger for rarer classes.

    Args:
        class_counts: training samples of each class, all > 0.
        scheme: ``"sqrt"`` is sqrt(n_max / n_j), not normalised; ``"effective_number"`` is (1 − β) / (1 − β^n_j),
            normalised to the sum C.
        beta: β of the effective number, in [0, 1).

    Returns:
        Tensor (C,), float32, on the CPU.

    Raises:
        ValueError: when a count is not > 0, the scheme is unknown, or β is out of range.
    """
    counts = positive_counts(class_counts, "drw_weights")
    if scheme not in _SCHEMES:
        raise ValueError(f"drw_weights: scheme must be one of {', '.join(_SCHEMES)}, got {scheme!r}")
    if scheme == "sqrt":
        weights = (counts.max() / counts).sqrt()
    else:
        if not 0 <= beta < 1:
            raise ValueError(f"drw_weights: beta must be in [0, 1), got {beta!r}")
        weights = (1 - beta) / (1 - beta**counts)
        weights = weights * len(counts) / weights.sum()
    return weights.float()
