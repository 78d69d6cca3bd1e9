"""Preparing a network for its training."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from monai_ext.errors import ConfigError
from monai_ext.networks.weights import load_pretrained

logger = logging.getLogger("monai_ext")


def initial_network(
    network: nn.Module,
    device: str | torch.device,
    pretrained_path: str | Path | None = None,
    channels_last: bool = False,
    settings: Mapping[str, Any] | None = None,
    pretrained_settings: Mapping[str, Any] | None = None,
    fresh_targets: Sequence[str] = (),
) -> nn.Module:
    """Load pre-trained weights (if any) and move a network to its device, in place.

    Args:
        network: the network, changed in place.
        device: name or `torch.device` to move it to.
        pretrained_path: see `monai_ext.networks.load_pretrained`.
        channels_last: keep weights in channels-last order, which is faster for some networks, slower for others, and
            changes results in the last bits.
        settings: settings that change the network's function without changing its keys, such as a normalisation.
        pretrained_settings: those settings of the pre-trained weights; a difference is logged as a warning.
        fresh_targets: targets of a multi-task network, such as `monai_ext.networks.SurfaceUNet`, that start from
            random values whether or not the file has them; any other that it lacks is an error.

    Raises:
        ConfigError: for a fresh target that the network doesn't have.
        WeightsError: for weights that can't be read or don't fit, see `monai_ext.networks.load_pretrained`.
    """
    unknown = [name for name in fresh_targets if name not in getattr(network, "task_decoders", {})]
    if unknown:
        raise ConfigError(f"--fresh_targets: the network has no target {unknown[0]!r}")
    if pretrained_path:
        fresh = [prefix for name in fresh_targets for prefix in network.target_prefixes(name)]  # type: ignore[operator]
        load_pretrained(network, pretrained_path, ignore=fresh)
        for key, expected in (pretrained_settings or {}).items():
            if (settings or {}).get(key) != expected:
                logger.warning(
                    "%s was trained with %s %r, this run has %r: its features will see other values than they know",
                    pretrained_path,
                    key,
                    expected,
                    (settings or {}).get(key),
                )
    network.to(device)
    if channels_last:
        network.to(memory_format=channels_last_of(network))  # type: ignore[call-overload]
    return network


def fine_tuning_stages(network: nn.Module) -> list[Any]:
    """The parts of a network to unfreeze one after another, from its end to its input, without its head.

    These are the network's own ``stages``, else all children with parameters but the last, which is the head.

    Args:
        network: any network; it is not changed.
    """
    if hasattr(network, "stages"):
        return list(network.stages)  # type: ignore[arg-type]
    learning = [name for name, child in network.named_children() if any(True for _ in child.parameters())]
    return learning[-2::-1]


def channels_last_of(network: nn.Module) -> torch.memory_format:
    """The channels-last order for a network's convolutions, 2-D or 3-D."""
    volumes = any(parameter.ndim == 5 for parameter in network.parameters())
    return torch.channels_last_3d if volumes else torch.channels_last


def parameter_groups(
    network: nn.Module, lr: float, head: str | None = None, head_lr: float | None = None
) -> list[dict[str, Any]]:
    """Parameters for an optimizer, those of the head with a learning rate of their own.

    Args:
        network: the network to train.
        lr: learning rate of the backbone.
        head: name of the sub-module with a rate of its own.
        head_lr: learning rate of the head; ``None`` for the same as the rest (one group).

    Raises:
        ConfigError: when there is no such sub-module.
    """
    if head is None or head_lr is None:
        return [{"params": list(network.parameters()), "lr": lr}]
    try:
        inside = list(network.get_submodule(head).parameters())
    except AttributeError as error:
        raise ConfigError(f"head_lr: the network has no sub-module {head!r}") from error
    known = set(inside)
    return [
        {"params": [parameter for parameter in network.parameters() if parameter not in known], "lr": lr},
        {"params": inside, "lr": head_lr},
    ]
