"""Frozen parts of a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from monai_ext.errors import ConfigError


class Frozen:
    """Parameters without a gradient, and batch norms in evaluation mode so that their statistics don't drift.

    Engines put the whole network into training mode, MONAI's before every batch; so the batch norms are put back in
    front of every forward pass.

    Args:
        network: the network itself, not its multi-process wrapper.
        covers: whether a parameter or module of this qualified name belongs to the part.
    """

    def __init__(self, network: nn.Module, covers: Callable[[str], bool]) -> None:
        self.network = network
        self.covers = covers
        self.parameters = [parameter for name, parameter in network.named_parameters() if covers(name)]
        self.active = False
        self._norms: list[nn.Module] = []
        network.register_forward_pre_hook(self._hold)

    def set(self, active: bool) -> None:
        """Freeze the part or release it."""
        self.active = active
        for parameter in self.parameters:
            parameter.requires_grad_(not active)
        # Looked up anew: a conversion to synchronised batch norms replaces the modules.
        self._norms = [
            module
            for name, module in self.network.named_modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and self.covers(name)
        ]
        for norm in self._norms:
            norm.train(self.network.training and not active)

    def _hold(self, network: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if self.active and network.training:
            for norm in self._norms:
                norm.eval()


def inside(network: nn.Module, modules: Sequence[str], who: str) -> Callable[[str], bool]:
    """Whether a qualified name is one of these modules or lies in one.

    Args:
        network: whose modules they are.
        modules: qualified names of sub-modules.
        who: begins the error message.

    Raises:
        ConfigError: for a module that the network doesn't have.
    """
    known = dict(network.named_modules())
    unknown = [name for name in modules if name not in known]
    if unknown:
        parts = ", ".join(name for name, _ in network.named_children())
        raise ConfigError(f"{who}: the network has no sub-module {unknown[0]!r}; it consists of {parts}")
    own = set(modules)
    prefixes = tuple(f"{name}." for name in modules)
    return lambda name: name in own or name.startswith(prefixes)
