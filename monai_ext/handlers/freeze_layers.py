"""Single layers that stay frozen as they were loaded."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ignite.engine import Engine, Events
from torch import nn

from monai_ext.errors import ConfigError
from monai_ext.handlers.engine_parts import part_of
from monai_ext.handlers.frozen import Frozen, inside

logger = logging.getLogger(__name__)


class FreezeLayers:
    """Keep some layers of a part of the network frozen for the whole training, chosen by number.

    Args:
        network: the network itself, not its multi-process wrapper; default: the trainer's.
        module: name of the part, for example ``classifier``.
        layers: numbers of its layers that have parameters, from 1 on the input's side; empty for none.

    Raises:
        ConfigError: for an unknown part or number, or when nothing of the part would be left to train; without
            ``network`` as the training starts.
    """

    def __init__(
        self, network: nn.Module | None = None, module: str = "classifier", layers: Sequence[int] = ()
    ) -> None:
        self.module = module
        self.layers = layers
        self.names: list[str] = []
        self.frozen = None if network is None else self._layers_of(network)

    def attach(self, engine: Engine) -> None:
        """Register with a trainer.

        Args:
            engine: the trainer.
        """
        engine.add_event_handler(Events.STARTED, self._started)

    def _started(self, engine: Engine) -> None:
        if self.frozen is None:
            self.frozen = self._layers_of(part_of(engine, "network", "FreezeLayers"))
        if self.names:
            self.frozen.set(True)
            logger.info("frozen: %s", ", ".join(self.names))

    def _layers_of(self, network: nn.Module) -> Frozen:
        module, layers = self.module, self.layers
        inside(network, [module], "FreezeLayers")
        part = network.get_submodule(module)
        names = [f"{module}.{name}" for name, layer in part.named_children() if any(True for _ in layer.parameters())]
        wrong = [number for number in layers if not 1 <= number <= len(names)]
        if wrong:
            raise ConfigError(f"FreezeLayers: {module} has the layers 1 to {len(names)}, not {wrong[0]!r}")
        if names and len(set(layers)) == len(names):
            raise ConfigError(f"FreezeLayers: all {len(names)} layers of {module} would be frozen; leave one to train")
        self.names = [names[number - 1] for number in layers]
        return Frozen(network, inside(network, self.names, "FreezeLayers"))
