"""A backbone that stays as it is while a new head settles."""

from __future__ import annotations

import logging

import torch
from ignite.engine import Engine, Events

from monai_ext.errors import ConfigError

logger = logging.getLogger(__name__)


class FreezeBackbone:
    """Train the head alone in the first epochs.

    The backbone's parameters get no gradient and its batch norms stay in evaluation mode, so that their statistics
    don't drift. A function of the epoch alone, so it survives a resume.

    Args:
        network: the network itself, not its multi-process wrapper.
        head: name of the sub-module that is trained.
        epochs: number of epochs with a frozen backbone; 0 switches the handler off.
    """

    def __init__(self, network: torch.nn.Module, head: str, epochs: int = 0) -> None:
        self.network = network
        self.epochs = epochs
        try:
            inside = set(network.get_submodule(head).parameters())
        except AttributeError as error:
            raise ConfigError(f"FreezeBackbone: the network has no sub-module {head!r}") from error
        self.frozen = [parameter for parameter in network.parameters() if parameter not in inside]
        self.norms = [
            module
            for name, module in network.named_modules()
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm) and not name.startswith(f"{head}.")
        ]

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        if self.epochs > 0:
            engine.add_event_handler(Events.EPOCH_STARTED, self.apply)

    def apply(self, engine: Engine) -> None:
        """Freeze or release for the epoch that begins."""
        freeze = engine.state.epoch <= self.epochs
        self.network.train()
        for parameter in self.frozen:
            parameter.requires_grad_(not freeze)
        for norm in self.norms:
            norm.train(not freeze)
        if engine.state.epoch == self.epochs + 1:
            logger.info("epoch %d: the backbone is trained from now on", engine.state.epoch)
