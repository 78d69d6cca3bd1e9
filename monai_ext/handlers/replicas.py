"""Check that all processes train the same network."""

from __future__ import annotations

import ignite.distributed as idist
import torch
import torch.distributed as dist
from torch import nn

from monai_ext.errors import UserError


class ReplicasDifferError(UserError):
    """Processes that should hold the same network don't: what they would go on to train is no longer one network."""


def check_replicas(network: nn.Module, epoch: int) -> None:
    """Compare the parameters of all processes, to the bit; a collective call.

    The sum of a parameter's bit patterns represents it, so that little is sent and nothing leaves the device. Buffers
    are left out: without synchronised batch norm each process keeps its own until the main one's are shared.

    Raises:
        ReplicasDifferError: naming the first parameter that differs.
    """
    if idist.get_world_size() == 1:
        return
    names, parameters = zip(*network.named_parameters(), strict=True)
    sums = torch.stack([_bits(parameter) for parameter in parameters])
    both = torch.stack([sums, -sums])  # the smallest is the largest of the negated ones
    dist.all_reduce(both, op=dist.ReduceOp.MAX)
    differing = (both[0] != -both[1]).nonzero().flatten().tolist()
    if differing:
        raise ReplicasDifferError(
            f"after epoch {epoch} the processes hold different networks: {len(differing)} of {len(names)} parameters "
            f"differ, the first one is {names[differing[0]]}; resume from the last checkpoint with --resume auto, and "
            "report this: it should not happen"
        )


def _bits(parameter: torch.Tensor) -> torch.Tensor:
    whole = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[parameter.element_size()]
    return parameter.detach().contiguous().view(whole).sum(dtype=torch.int64)
