"""Memory that a training step needs, counted without computing it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn


class Footprint(NamedTuple):
    """Bytes of a training step in float32.

    Attributes:
        weights: parameters and buffers of the network.
        activations: what the forward pass keeps for the backward pass, of the whole batch.
    """

    weights: int
    activations: int


def training_footprint(network: nn.Module, shape: Sequence[int]) -> Footprint:
    """Count the memory of one training step on torch's ``meta`` device, which has shapes but no values.

    Work space of convolutions isn't counted, and recomputed parts (gradient checkpointing) only as far as they are
    kept: the true need is higher.

    Args:
        network: any that can be run on the ``meta`` device; it is copied there and not changed.
        shape: (batch, channel, spatial axes) of the input.

    Raises:
        Exception: what the network raises for such an input, or on the ``meta`` device.
    """
    twin = copy.deepcopy(network).to("meta").train()
    own = {tensor.untyped_storage()._cdata for tensor in (*twin.parameters(), *twin.buffers())}
    kept: dict[int, torch.Tensor] = {}  # the tensors stay alive, so that no address is used twice

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.setdefault(tensor.untyped_storage()._cdata, tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        twin(torch.empty(tuple(shape), device="meta"))
    weights = sum(tensor.numel() * tensor.element_size() for tensor in (*twin.parameters(), *twin.buffers()))
    return Footprint(weights, sum(t.untyped_storage().nbytes() for address, t in kept.items() if address not in own))
