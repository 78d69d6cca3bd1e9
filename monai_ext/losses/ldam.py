"""Label-distribution-aware margin loss.

Paper: Cao et al., Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss, arXiv:1906.07413.
Reference: https://github.com/kaidic/LDAM-DRW (``losses.py``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

_REDUCTIONS = ("weighted_mean", "batch_mean")


class LDAMLoss(nn.Module):
    """Cross-entropy of s · (logit − margin at the true class); rarer classes get larger margins.

    The margin of class j is max_m · n_j^(−1/4) / max_i n_i^(−1/4): the rarest class gets exactly ``max_m``.

    Differences from the reference: sums are computed in at least float32, also under autocast (float64 stays float64);
    labels are checked; and both weighted means in common use are available.

    Args:
        class_counts: training samples of each class, all > 0.
        max_m: margin of the rarest class, ≥ 0.
        s: scale of the logits, > 0.
        weight: C class weights, or None for equal ones; can be set at any time (see `drw_weights`).
        reduction: ``"weighted_mean"`` is sum(w_y · l) / sum(w_y), as in torch; ``"batch_mean"`` is mean(w_y · l).

    Shapes: logits (B, C), target (B,) or (B, 1) of an integer type with classes from 0; the loss is a scalar, NaN with
    a gradient of 0 where all weights w_y are 0.

    Raises:
        ValueError: when an argument is out of range; in the call, for wrong shapes, types and labels. Labels are
            checked only on the CPU, because that would stall a GPU in every step; there (and in TorchScript) a
            label out of range gives the loss NaN, never a device assertion.

    Example::

        loss = LDAMLoss([75, 210])
        loss.weight = drw_weights([75, 210])
        value = loss(network(image), label)
    """

    __jit_unused_properties__ = ("weight",)
    if TYPE_CHECKING:  # TorchScript reads the annotations of a class, and postponed ones are only text to it
        margins: torch.Tensor
        _weight: torch.Tensor | None

    def __init__(
        self,
        class_counts: Sequence[int] | torch.Tensor,
        max_m: float = 0.5,
        s: float = 30.0,
        weight: Sequence[float] | torch.Tensor | None = None,
        reduction: str = "weighted_mean",
    ) -> None:
        super().__init__()
        counts = positive_counts(class_counts, "LDAMLoss")
        if not (math.isfinite(max_m) and max_m >= 0):
            raise ValueError(f"LDAMLoss: max_m must be a number of at least 0, got {max_m!r}")
        if not (math.isfinite(s) and s > 0):
            raise ValueError(f"LDAMLoss: s must be a number > 0, got {s!r}")
        if reduction not in _REDUCTIONS:
            raise ValueError(f"LDAMLoss: reduction must be one of {', '.join(_REDUCTIONS)}, got {reduction!r}")
        margins = counts.pow(-0.25)
        self.s = float(s)
        self.reduction = reduction
        # Not persistent: both follow from the configuration and the training fold, not from training.
        self.register_buffer("margins", max_m * margins / margins.max(), persistent=False)
        self.register_buffer("_weight", None, persistent=False)
        self.weight = weight

    @property
    def weight(self) -> torch.Tensor | None:
        """Weight of each class (C,), or None for equal weights."""
        return self._weight

    @weight.setter
    def weight(self, weight: Sequence[float] | torch.Tensor | None) -> None:
        if weight is None:
            self._weight = None
            return
        values = torch.as_tensor(weight, dtype=self.margins.dtype, device=self.margins.device).detach().clone()
        if values.shape != self.margins.shape:
            raise ValueError(
                f"LDAMLoss: weight must have one value for each of {len(self.margins)} classes, "
                f"got shape {tuple(values.shape)}"
            )
        if not (torch.isfinite(values).all() and (values >= 0).all() and values.sum() > 0):
            raise ValueError(f"LDAMLoss: weights must be finite, ≥ 0 and not all 0, got {values.tolist()}")
        self._weight = values

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if not torch.jit.is_scripting():
            self._check(input, target)
        logits = input if input.dtype == torch.float64 else input.float()
        # Compared instead of indexed: no label, however wrong, can then become a device assertion.
        is_class = target.reshape(-1, 1) == torch.arange(logits.shape[1], device=target.device)
        scaled = self.s * (logits - is_class * self.margins.to(logits))
        losses = -torch.log_softmax(scaled, dim=1).masked_fill(~is_class, 0.0).sum(dim=1)
        losses = losses.masked_fill(~is_class.any(dim=1), float("nan"))
        weight = self._weight
        if weight is None:
            return losses.mean()
        weights = (is_class * weight.to(logits)).sum(dim=1)
        total = weights.sum()
        below = torch.full_like(total, len(weights)) if self.reduction == "batch_mean" else total
        return ((weights * losses).sum() / below.masked_fill(total == 0, 1.0)).masked_fill(total == 0, float("nan"))

    def _check(self, input: torch.Tensor, target: torch.Tensor) -> None:
        classes = len(self.margins)
        if input.ndim != 2 or input.shape[1] != classes:
            raise ValueError(
                f"LDAMLoss: logits must have shape (B, {classes}), one for each of class_counts, "
                f"got {tuple(input.shape)}"
            )
        if target.shape not in ((len(input),), (len(input), 1)):
            raise ValueError(
                f"LDAMLoss: target must have shape ({len(input)},) or ({len(input)}, 1) for logits of shape "
                f"{tuple(input.shape)}, got {tuple(target.shape)}"
            )
        if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
            raise ValueError(f"LDAMLoss: target must hold integer class numbers, got {target.dtype}")
        if target.device.type == "cpu" and not torch.compiler.is_compiling():
            wrong = target[(target < 0) | (target >= classes)]
            if len(wrong):
                raise ValueError(
                    f"LDAMLoss: labels must be 0 to {classes - 1}, got {sorted(set(wrong.flatten().tolist()))}"
                )


def positive_counts(class_counts: Sequence[int] | torch.Tensor, who: str) -> torch.Tensor:
    """Class counts as float64 (C,).

    Args:
        class_counts: training samples of each class.
        who: name of the caller, for the error message.

    Raises:
        ValueError: when they aren't a list of finite numbers > 0.
    """
    counts = torch.as_tensor(class_counts, dtype=torch.float64, device="cpu")
    if counts.ndim != 1 or len(counts) == 0:
        raise ValueError(f"{who}: class_counts must be a list with one count per class, got {class_counts!r}")
    wrong = (~torch.isfinite(counts) | (counts <= 0)).nonzero().flatten().tolist()
    if wrong:
        what = f"class {wrong[0]}" if len(wrong) == 1 else f"classes {', '.join(map(str, wrong))}"
        them = "it" if len(wrong) == 1 else "them"
        listed = [int(count) if count.is_integer() else count for count in counts.tolist()]
        raise ValueError(f"{who}: class_counts must all be > 0, got {listed}; drop {what} or merge {them}")
    return counts
