"""Values that the processes of one training share."""

from __future__ import annotations

from collections.abc import Sequence

import ignite.distributed as idist
import torch
import torch.distributed as dist


def highest_on_all_ranks(values: Sequence[torch.Tensor | float], device: torch.device) -> list[float]:
    """The largest of each value over all processes; one collective call and one wait for the device in all.

    Args:
        values: scalars, on ``device`` or on the host, as many in each process.
        device: device of the network, of the kind that the process group works on.
    """
    together = torch.stack(
        [
            # filled on the device: a number of the host would be another wait
            value.to(device, torch.float32)
            if isinstance(value, torch.Tensor)
            else torch.full((), float(value), device=device)
            for value in values
        ]
    )
    if idist.get_world_size() > 1:
        dist.all_reduce(together, op=dist.ReduceOp.MAX)
    return together.tolist()


def average_gradients(parameters: Sequence[torch.Tensor]) -> None:
    """Mean over all processes, for gradients that were collected outside the wrapper's own reduction.

    A parameter without a gradient on some of them counts as zero there; without one on any it keeps none.
    """
    if idist.get_world_size() == 1 or not parameters:
        return
    present = torch.tensor([p.grad is not None for p in parameters], dtype=torch.uint8, device=parameters[0].device)
    dist.all_reduce(present, op=dist.ReduceOp.MAX)
    for parameter, somewhere in zip(parameters, present.tolist(), strict=True):
        if somewhere:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)
            parameter.grad /= idist.get_world_size()
