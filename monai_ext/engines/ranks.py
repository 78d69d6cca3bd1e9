"""What the processes of one training have to agree on."""

from __future__ import annotations

from collections.abc import Sequence

import ignite.distributed as idist
import torch
import torch.distributed as dist


def highest_on_all_ranks(values: Sequence[torch.Tensor | float], device: torch.device) -> list[float]:
    """The largest of each value over all processes; one collective call and one wait for the device in all.

    Args:
        values: scalars, on ``device`` or on the host, as many in each process.
        device: what the network runs on: the process group's own kind.
    """
    tensors = [torch.as_tensor(value, dtype=torch.float32, device=device) for value in values]
    together = torch.stack(tensors)
    if idist.get_world_size() > 1:
        dist.all_reduce(together, op=dist.ReduceOp.MAX)
    return together.tolist()


def average_gradients(parameters: Sequence[torch.Tensor]) -> None:
    """Mean over all processes, for gradients that were collected outside the wrapper's own reduction."""
    world_size = idist.get_world_size()
    for parameter in parameters:
        if world_size > 1 and parameter.grad is not None:
            dist.all_reduce(parameter.grad)
            parameter.grad /= world_size
