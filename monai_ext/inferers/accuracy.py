"""Check that a faster network still gives the same predictions."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils import _pytree as pytree

FP32_TOLERANCE = 1e-4
PROBABILITY_TOLERANCE = 0.02


def accuracy_fault(output: Any, reference: Any, exact: bool) -> str | None:
    """The reason why ``output`` can't replace ``reference``; None when it can.

    Args:
        output: logits (B, C, ...), or a dict of them.
        reference: the same from eager float32.
        exact: compare the values (float32); otherwise the probabilities (half precision).
    """
    for actual, expected in zip(pytree.tree_leaves(output), pytree.tree_leaves(reference), strict=True):
        if not torch.isfinite(actual).all():
            return "not finite"
        if exact:
            error = float((actual - expected).abs().max() / expected.abs().max().clamp_min(1e-12))
            if error >= FP32_TOLERANCE:
                return f"error {error:.1e} of the largest output"
        else:
            # Only the loss determines which of the two is meant; a network that keeps both is safe for either.
            error = max(float((p(actual) - p(expected)).abs().max()) for p in (torch.sigmoid, _softmax))
            if error >= PROBABILITY_TOLERANCE:
                return f"probabilities differ by {error:.3f}"
        same = (_classes(actual) == _classes(expected)).float().mean().item()
        # Single voxels of a mask may change class; cases may not.
        if same < (0.999 if actual.ndim > 2 else 1.0):
            return f"{1 - same:.2%} of the classes differ"
    return None


def _classes(logits: torch.Tensor) -> torch.Tensor:
    return logits.argmax(1) if logits.shape[1] > 1 else logits > 0


def _softmax(logits: torch.Tensor) -> torch.Tensor:
    return torch.softmax(logits, 1)
