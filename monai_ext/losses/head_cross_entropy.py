"""Cross-entropy for samples of which each belongs to one of several heads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from monai_ext.heads import head_numbers


class HeadCrossEntropy(nn.CrossEntropyLoss):
    """`torch.nn.CrossEntropyLoss` over the classes of the head that a sample's label belongs to.

    The logits of the other heads get no gradient from it.

    Args:
        class_names: ``<head>/<class>`` in the order of the logits, see `monai_ext.heads.heads_of`.
        weight: (C,) class weights, or None for equal ones.

    Shapes: logits (B, C), labels (B,) of 0..C-1; the loss is a scalar, the (weighted) mean over the samples.

    Raises:
        ConfigError: for names without a head.
    """

    head: torch.Tensor

    def __init__(self, class_names: Sequence[str], weight: torch.Tensor | None = None) -> None:
        super().__init__(weight)
        self.register_buffer("head", torch.tensor(head_numbers(class_names)), persistent=False)

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        others = self.head != self.head[target][:, None]
        return super().forward(input.masked_fill(others, float("-inf")), target)
