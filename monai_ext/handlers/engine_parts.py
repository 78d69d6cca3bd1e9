"""Parts of an engine that its handlers use."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine
from torch import nn

from monai_ext.errors import ConfigError
from monai_ext.networks.checkpoints import unwrap


def part_of(engine: Engine, name: str, who: str) -> Any:
    """The network (without a multi-process wrapper), optimizer or loss of one of MONAI's engines.

    MONAI's trainer attaches its handlers before it has them: ask for them when it has started.

    Args:
        engine: a trainer or evaluator of MONAI.
        name: of the attribute: ``network``, ``optimizer``, ``loss_function``.
        who: begins the error message.

    Raises:
        ConfigError: when the engine has none, such as a plain Ignite engine.
    """
    found = getattr(engine, name, None)
    if found is None:
        raise ConfigError(f"{who}: the {type(engine).__name__} has no {name}; give it to the handler")
    return unwrap(found) if isinstance(found, nn.Module) else found
