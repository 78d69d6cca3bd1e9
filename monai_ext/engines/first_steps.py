"""Steps in which an optimizer allocates its state, and how to undo them when memory runs out."""

from __future__ import annotations

from collections.abc import Callable

import torch


class FirstSteps:
    """Makes an optimizer's first step repeatable: out of memory halfway, some groups have moved and others not.

    The parameters that get their first step are known by it; while there are some, all that have a gradient are
    copied to the host beforehand. Later steps cost nothing.
    """

    def __init__(self) -> None:
        self._known: set[torch.Tensor] = set()

    def before(self, optimizer: torch.optim.Optimizer) -> Callable[[], None] | None:
        """A function that undoes the next step; ``None`` when none of its parameters is new."""
        stepped = _with_gradient(optimizer)
        if self._known.issuperset(stepped):
            return None
        # Only those with a state: looking one up would create it.
        states = {p: dict(optimizer.state[p]) for p in stepped if p in optimizer.state}
        tensors = [
            (tensor, tensor.detach().to("cpu", copy=True))
            for tensor in [*stepped, *(v for state in states.values() for v in state.values())]
            if isinstance(tensor, torch.Tensor)
        ]

        def undo() -> None:
            with torch.no_grad():
                for live, copy in tensors:
                    live.copy_(copy)
            for parameter in stepped:
                optimizer.state.pop(parameter, None)
                if parameter in states:
                    optimizer.state[parameter] = states[parameter]

        return undo

    def done(self, optimizer: torch.optim.Optimizer) -> None:
        """Remember the parameters that have had their step."""
        self._known.update(_with_gradient(optimizer))


def _with_gradient(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
