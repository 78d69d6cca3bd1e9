"""The sentence for a training of several processes of which one has died."""

from __future__ import annotations

import re

import ignite.distributed as idist
import torch.distributed as dist

from monai_ext.errors import UserError

# How gloo, which has no error of its own, and NCCL say that another process has left.
_LEFT = re.compile(r"gloo|NCCL|connection (closed|reset) by peer", re.IGNORECASE)


class LostRankError(UserError):
    """Another process of the training has ended, so that this one can't go on."""


def lost_rank(error: BaseException) -> LostRankError | None:
    """What to raise in place of an error that comes from the connection to another process; ``None`` for any other.

    Args:
        error: of a training.
    """
    if idist.get_world_size() == 1 or not isinstance(error, RuntimeError):
        return None
    if not isinstance(error, dist.DistError) and not _LEFT.search(str(error)):
        return None
    return LostRankError(
        f"another of the {idist.get_world_size()} processes has ended (killed, out of memory, or with an error of its "
        "own above); continue from the last checkpoint with as many processes and --resume auto"
    )
