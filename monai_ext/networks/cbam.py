"""Convolutional block attention module.

Paper: Woo et al., CBAM: Convolutional Block Attention Module, arXiv:1807.06521.
"""

from __future__ import annotations

import torch
from torch import nn


class CBAM(nn.Module):
    """Channel attention, then spatial attention, on a feature map.

    The channel gate is the sigmoid of a shared two-layer perceptron on the average- and on the max-pooled vector,
    summed; the spatial gate that of a 7×7 convolution over the mean and the maximum of the channels. As in the paper;
    its published code has a batch norm behind the convolution, and biases elsewhere.

    Args:
        channels: C of the feature map.
        reduction: factor by which the perceptron's hidden layer is narrower than C.

    Shapes: (B, C, Y, X) in and out.

    Raises:
        ValueError: when the hidden layer would be empty.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        if not 1 <= reduction <= channels:
            raise ValueError(f"CBAM: reduction must be from 1 to the {channels} channels, got {reduction!r}")
        hidden = channels // reduction
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, channels))
        self.spatial = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        channel_gate = torch.sigmoid(self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3))))
        x = x * channel_gate[:, :, None, None]
        planes = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)
        return x * torch.sigmoid(self.spatial(planes))
