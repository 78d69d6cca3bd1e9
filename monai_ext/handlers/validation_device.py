"""Validation away from the device that trains."""

from __future__ import annotations

import copy

from ignite.engine import Engine, Events
from torch import nn


class ValidationDevice:
    """Lets an evaluator of another device than the network's work on a copy there, brought up to date each time.

    For a GPU whose memory training fills. An evaluator on the network's own device isn't touched.

    Args:
        network: the network that is trained.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self._copy: nn.Module | None = None

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator."""
        # Not STARTED: several processes bring their batch statistics into line there, which the copy has to have.
        engine.add_event_handler(Events.EPOCH_STARTED, self.update)

    def update(self, engine: Engine) -> None:
        """Put the copy into the evaluator, with the weights that the network has now."""
        device = engine.state.device
        if all(parameter.device == device for parameter in self.network.parameters()):
            return
        if self._copy is None:
            self._copy = copy.deepcopy(self.network).to(device)
        self._copy.load_state_dict(self.network.state_dict())
        engine.network = self._copy.eval()
