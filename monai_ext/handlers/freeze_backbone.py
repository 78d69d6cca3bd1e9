"""A backbone that stays as it is while a new head settles."""

from __future__ import annotations

import logging

from ignite.engine import Engine, Events
from torch import nn

from monai_ext.handlers.frozen import Frozen, inside

logger = logging.getLogger(__name__)


class FreezeBackbone:
    """Train the head alone in the first epochs.

    The backbone's parameters get no gradient and its batch norms stay in evaluation mode, so that their statistics
    don't drift. A function of the epoch alone, so it survives a resume.

    Args:
        network: the network itself, not its multi-process wrapper.
        head: name of the sub-module that is trained.
        epochs: number of epochs with a frozen backbone; 0 switches the handler off.

    Raises:
        ConfigError: when the network has no such sub-module.
    """

    def __init__(self, network: nn.Module, head: str, epochs: int = 0) -> None:
        in_head = inside(network, [head], "FreezeBackbone")
        self.epochs = epochs
        self.backbone = Frozen(network, lambda name: not in_head(name))

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        if self.epochs > 0:
            engine.add_event_handler(Events.EPOCH_STARTED, self.apply)

    def apply(self, engine: Engine) -> None:
        """Freeze or release for the epoch that begins."""
        self.backbone.set(engine.state.epoch <= self.epochs)
        if engine.state.epoch == self.epochs + 1:
            logger.info("epoch %d: the backbone is trained from now on", engine.state.epoch)
