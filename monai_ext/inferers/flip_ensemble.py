"""Test-time flips for whole-volume classification."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import torch
from monai.inferers import Inferer

from monai_ext.inferers.fold_ensemble import log_mean_softmax


class FlipEnsembleInferer(Inferer):
    """Mean of a classifier's softmax probabilities over all flips of the spatial axes (eight for a volume).

    Args:
        flips: False makes it a plain forward, so that a setting can switch it.

    The call takes images (B, channels, Z, Y, X) or (B, channels, Y, X) and a network that gives logits (B, C). It
    returns the logarithm of the mean probabilities (B, C), float32: a softmax gives the mean probabilities back.

    Raises:
        ValueError: in the call, when the network's output isn't (B, C): a mask would have to be flipped back.
    """

    def __init__(self, flips: bool = True) -> None:
        self.flips = flips

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        if not self.flips:
            return network(inputs, *args, **kwargs)
        axes = range(2, inputs.ndim)
        logits = []
        for count in range(len(axes) + 1):
            for flipped in combinations(axes, count):
                logits.append(network(torch.flip(inputs, flipped) if flipped else inputs, *args, **kwargs))
                if logits[0].ndim != 2:
                    raise ValueError(
                        f"FlipEnsembleInferer: needs a classifier with output (B, C), got {tuple(logits[0].shape)}; "
                        "set flips=False"
                    )
        return log_mean_softmax(logits)
