"""Validation away from the device that trains."""

from __future__ import annotations

import copy

import torch
from ignite.engine import Engine, Events
from torch import nn

from monai_ext.handlers.engine_parts import part_of


class ValidationDevice:
    """Lets an evaluator of another device than the network's work on a copy there, updated before each validation.

    For a GPU whose memory training fills. An evaluator on the network's own device is left as it is.

    Args:
        network: the network that is trained; default: the evaluator's.
    """

    def __init__(self, network: nn.Module | None = None) -> None:
        self.network = network
        self._copy: nn.Module | None = None

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator.

        Args:
            engine: the evaluator.
        """
        # Not STARTED: several processes bring their batch statistics into line there, which the copy has to have.
        engine.add_event_handler(Events.EPOCH_STARTED, self.update)

    def update(self, engine: Engine) -> None:
        """Put the copy into the evaluator, with the weights that the network has now.

        Args:
            engine: the evaluator, at the start of a validation.
        """
        if self.network is None:
            self.network = part_of(engine, "network", "ValidationDevice")
        device = engine.state.device
        if all(parameter.device == device for parameter in self.network.parameters()):
            return
        if self._copy is None:
            self._copy = _copy_on(self.network, device)
        self._copy.load_state_dict(self.network.state_dict())
        engine.network = self._copy.eval()


def _copy_on(network: nn.Module, device: torch.device) -> nn.Module:
    """A copy of the network whose tensors lie on the device, made without a second one where the network is."""
    copies: dict[int, torch.Tensor] = {}
    for parameter in network.parameters():
        moved = parameter.detach().to(device, copy=True)
        copies[id(parameter)] = nn.Parameter(moved, requires_grad=parameter.requires_grad)
    for buffer in network.buffers():
        copies[id(buffer)] = buffer.detach().to(device, copy=True)
    return copy.deepcopy(network, copies)
