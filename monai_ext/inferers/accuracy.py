"""Check that a faster network still gives the same predictions."""

from __future__ import annotations

import logging
import threading
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from monai_ext.errors import ConfigError

logger = logging.getLogger("monai_ext")

FP32_TOLERANCE = 1e-4
PROBABILITY_TOLERANCE = 0.02
MASK_AGREEMENT = 0.999


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
            error = max(float((p(actual) - p(expected)).abs().max()) for p in (nn.Sigmoid(), nn.Softmax(1)))
            if error >= PROBABILITY_TOLERANCE:
                return f"probabilities differ by {error:.3f}"
        classes, others = _classes(actual), _classes(expected)
        # Single voxels of a mask may change class; cases may not.
        same = (classes == others).float().mean().item()
        if same < (MASK_AGREEMENT if actual.ndim > 2 else 1.0):
            return f"{1 - same:.2%} of the classes differ"
        # Voxels of a small structure are few of all.
        if not exact and (dice := _least_dice(classes, others)) < MASK_AGREEMENT:
            return f"Dice of a class is {dice:.4f}"
    return None


def _least_dice(classes: torch.Tensor, others: torch.Tensor) -> float:
    found = torch.cat([classes.unique(), others.unique()]).unique()
    masks = ((classes == value, others == value) for value in found)
    return min(float(2 * (a & b).sum() / (a.sum() + b.sum())) for a, b in masks)


def _classes(logits: torch.Tensor) -> torch.Tensor:
    return logits.argmax(1) if logits.shape[1] > 1 else logits > 0


class CheckedNetwork(nn.Module):
    """A faster network that is compared with the exact one on the first image of its first call; then one stays.

    Args:
        fast: the faster network.
        exact: the network in eager float32.
        name: how messages name the faster one, such as "openvino bf16".
        exact_numbers: see `accuracy_fault`.
        fall_back: whether the exact network takes over, with a warning; otherwise a difference is an error.

    Raises:
        ConfigError: in the first call, for a difference without ``fall_back``.
    """

    def __init__(
        self, fast: nn.Module, exact: nn.Module, name: str, exact_numbers: bool, fall_back: bool = True
    ) -> None:
        super().__init__()
        self.fast, self.exact = fast, exact
        self.name, self.exact_numbers, self.fall_back = name, exact_numbers, fall_back
        self.chosen: nn.Module | None = None
        self._choosing = threading.Lock()

    def forward(self, x: torch.Tensor) -> Any:
        with self._choosing:
            if self.chosen is None:
                self.chosen = self._choice(x[:1])
        return self.chosen(x)

    def _choice(self, x: torch.Tensor) -> nn.Module:
        with torch.no_grad():
            fault = accuracy_fault(self.fast(x), self.exact(x), self.exact_numbers)
        if fault is None:
            return self.fast
        if not self.fall_back:
            raise ConfigError(
                f"engine and precision {self.name!r}: not as eager fp32 on the first image ({fault}); "
                "use engine 'eager' with precision 'fp32'"
            )
        logger.warning(
            "inference: %s isn't as eager fp32 on the first image (%s); eager fp32 is used", self.name, fault
        )
        return self.exact
