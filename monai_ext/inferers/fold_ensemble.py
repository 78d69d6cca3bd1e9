"""Ensembles that average probabilities and return logits, so that they can replace a single network."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn


class FoldEnsemble(nn.Module):
    """Mean of the softmax probabilities of several networks, for example one per cross-validation fold.

    Args:
        networks: networks with the same input and the same classes.

    Shapes: input as the networks'; output (B, C, ...), float32: the logarithm of the mean probabilities. A softmax
    over axis 1 gives the mean probabilities back.

    Raises:
        ValueError: when there is no network.
    """

    def __init__(self, networks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        if len(self.networks) == 0:
            raise ValueError("FoldEnsemble: needs at least one network, got none")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return log_mean_softmax([network(x) for network in self.networks])


def log_mean_softmax(logits: list[torch.Tensor]) -> torch.Tensor:
    """Logarithm of the mean softmax (axis 1) over several logits (B, C, ...), in float32 (float64 stays float64)."""
    stacked = torch.stack(logits)
    if stacked.dtype != torch.float64:
        stacked = stacked.float()
    # By logsumexp: a probability that is zero in float32 for all of them keeps a finite logarithm.
    return torch.logsumexp(torch.log_softmax(stacked, dim=2), dim=0) - math.log(len(logits))
