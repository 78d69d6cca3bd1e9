"""The outputs of several targets as one tensor, for programs that know no other."""

from __future__ import annotations

import torch
from torch import nn


class JoinedTargets(nn.Module):
    """A network of several targets with its outputs joined along the channels, in the order of the targets.

    MONAI's ``verify_net_in_out`` takes one tensor only.

    Args:
        network: gives a dict, name of a target → tensor (B, C, ...).

    Shapes: the network's input; output (B, sum of the targets' channels, ...).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat(list(self.network(x).values()), dim=1)
