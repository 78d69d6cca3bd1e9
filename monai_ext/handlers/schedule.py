"""The schedule of a resumed run that is to be longer or shorter than planned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# What schedules of PyTorch call their length in epochs.
_LENGTHS = ("T_max", "total_iters")


def lengths(scheduler: Any) -> dict[str, int]:
    """The lengths that a schedule has, by the names of its attributes; none for one without a length.

    Args:
        scheduler: of PyTorch, or ``None``.
    """
    return {name: getattr(scheduler, name) for name in _LENGTHS if hasattr(scheduler, name)}


def follow(scheduler: Any, planned: dict[str, int], used: Sequence[float] | None) -> None:
    """Go on with a schedule of another length from where it stands: no rate rises.

    The last step is taken again with the new length, because at the end of the old one the rate would be stuck at its
    smallest value.

    Args:
        scheduler: as restored from a checkpoint.
        planned: its new lengths, see `lengths`.
        used: rates of the optimizer's groups in the epoch that has ended; ``None`` within an epoch, and where they
            aren't known.
    """
    if lengths(scheduler) == planned:
        return
    for name, value in planned.items():
        setattr(scheduler, name, value)
    groups = scheduler.optimizer.param_groups
    if used is None or len(used) != len(groups) or scheduler.last_epoch < 1:
        return
    for group, rate in zip(groups, used, strict=True):
        group["lr"] = rate
    scheduler.last_epoch -= 1
    scheduler.step()
    for group, rate in zip(groups, used, strict=True):
        group["lr"] = min(group["lr"], rate)
