"""A frozen backbone while a new head is trained."""

from __future__ import annotations

import logging

from ignite.engine import Engine, Events
from torch import nn

from monai_ext.handlers.engine_parts import part_of
from monai_ext.handlers.frozen import Frozen, inside

logger = logging.getLogger(__name__)


class FreezeBackbone:
    """Train the head alone in the first epochs.

    The backbone's parameters get no gradient and its batch norms stay in evaluation mode, so that their statistics
    don't drift. A function of the epoch alone, so it survives a resume.

    Args:
        network: the network itself, not its multi-process wrapper; default: the trainer's.
        head: name of the sub-module that is trained.
        epochs: number of epochs with a frozen backbone; 0 switches the handler off.

    Raises:
        ConfigError: when the network has no such sub-module; without ``network`` when the training starts.
    """

    def __init__(self, network: nn.Module | None = None, head: str = "head", epochs: int = 0) -> None:
        self.head = head
        self.epochs = epochs
        self.backbone = None if network is None else self._backbone_of(network)

    def attach(self, engine: Engine) -> None:
        """Register with a trainer.

        Args:
            engine: the trainer.
        """
        if self.epochs > 0:
            engine.add_event_handler(Events.STARTED, self._started)
            engine.add_event_handler(Events.EPOCH_STARTED, self.apply)

    def _started(self, engine: Engine) -> None:
        if self.backbone is None:
            self.backbone = self._backbone_of(part_of(engine, "network", "FreezeBackbone"))

    def _backbone_of(self, network: nn.Module) -> Frozen:
        in_head = inside(network, [self.head], "FreezeBackbone")
        return Frozen(network, lambda name: not in_head(name))

    def apply(self, engine: Engine) -> None:
        """Freeze or release for the epoch that begins.

        Args:
            engine: the trainer, at the start of an epoch.
        """
        assert self.backbone is not None
        self.backbone.set(engine.state.epoch <= self.epochs)
        if engine.state.epoch == self.epochs + 1:
            logger.info("epoch %d: the backbone is trained from now on", engine.state.epoch)
