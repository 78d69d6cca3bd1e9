"""Volumes for a network that predicts per slice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer


class SliceMeanInferer(Inferer):
    """Mean over the slices of a volume of the probabilities that a slice network predicts for each label.

    Args:
        slices: whether the network takes single slices; False makes it a plain forward (for a setting to switch).

    The call takes slices (B, C, Y, X), which go through as they are, or volumes (B, slice, C, Y, X). It returns logits
    (B, labels): of a volume those whose sigmoids are the mean probabilities, as `MultiLabel` computes them.
    """

    def __init__(self, slices: bool = True) -> None:
        self.slices = slices

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        if not self.slices or inputs.ndim == 4:
            return network(inputs, *args, **kwargs)
        logits = network(inputs.flatten(0, 1), *args, **kwargs).unflatten(0, inputs.shape[:2])
        return torch.logit(torch.sigmoid(logits.double()).mean(1))
