"""The part of the blocks that one of several processes computes: a shard, by its index and their count."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Set
from typing import NamedTuple

import numpy as np

from monai_ext.devices import launcher_number as _number
from monai_ext.errors import ConfigError


class Shard(NamedTuple):
    """The blocks for one of several processes."""

    wanted: list[int]
    """Numbers of the blocks to compute, ascending."""
    empty: list[int]
    """Of those known to be empty, to be recorded."""
    ready: int
    """Number of its blocks that are finished."""

    @classmethod
    def of(cls, index: int, count: int, blocks: int, candidates: np.ndarray, finished: Set[int]) -> Shard:
        """Shard ``index`` of ``count``: its blocks follow one another down tile columns.

        Args:
            index: shard index, from 0.
            count: number of shards.
            blocks: number of blocks in all.
            candidates: numbers of the blocks that may have an output, ascending; the others are empty.
            finished: numbers of the recorded blocks.
        """
        empty = np.setdiff1d(np.arange(blocks), candidates, assume_unique=True)
        own = [np.array_split(each, count)[index].tolist() for each in (candidates, empty)]
        wanted, skipped = ([block for block in each if block not in finished] for each in own)
        return cls(wanted, skipped, sum(map(len, own)) - len(wanted) - len(skipped))


def shard_of_launcher(
    environment: Mapping[str, str] = os.environ, claim: Callable[[str, str, int], int] | None = None
) -> tuple[int, int]:
    """Shard index (from 0) and count of this process; (0, 1) without a launcher.

    ``torchrun`` sets ``RANK`` and ``WORLD_SIZE``. SLURM sets ``SLURM_PROCID`` and ``SLURM_STEP_NUM_TASKS`` under
    ``srun``, and ``SLURM_ARRAY_TASK_ID``, ``_MIN`` and ``_COUNT`` in array jobs; in an array of jobs with several tasks
    each, both count. Where its numbers are a list (``--array=3,7,8``), SLURM doesn't say which comes where in it: each
    task claims a place. The script of a batch job is one process, whatever number of tasks ``srun`` is to start in it.

    Args:
        environment: environment variables.
        claim: gives a task its place, by the name of the array, the task's number and the count of tasks.

    Raises:
        ConfigError: when one of them isn't a number, or the tasks of a list can't claim.
    """
    if "RANK" in environment and "WORLD_SIZE" in environment:
        return _number(environment, "RANK"), _number(environment, "WORLD_SIZE")
    index, count = 0, 1
    if "SLURM_ARRAY_TASK_ID" in environment:
        index, count = _place_in_array(environment, claim)
    if "SLURM_PROCID" in environment:
        task = _number(environment, "SLURM_PROCID")
        script = task == 0 and "SLURM_JOB_ID" in environment and "SLURM_STEP_NUM_TASKS" not in environment
        of_job = 1 if script else _number(environment, "SLURM_NTASKS", 1)
        tasks = _number(environment, "SLURM_STEP_NUM_TASKS", of_job)
        index, count = index * tasks + task, count * tasks
    return index, count


def _place_in_array(environment: Mapping[str, str], claim: Callable[[str, str, int], int] | None) -> tuple[int, int]:
    task, first = _number(environment, "SLURM_ARRAY_TASK_ID"), _number(environment, "SLURM_ARRAY_TASK_MIN", 0)
    step = _number(environment, "SLURM_ARRAY_TASK_STEP", 1)
    index = (task - first) // step
    count = _number(environment, "SLURM_ARRAY_TASK_COUNT", index + 1)
    if (_number(environment, "SLURM_ARRAY_TASK_MAX", first + (count - 1) * step) - first) // step + 1 == count:
        return index, count
    if claim is None:
        raise ConfigError("the tasks of a SLURM array whose numbers are a list need --part and --parts here")
    return claim(environment.get("SLURM_ARRAY_JOB_ID", "array"), str(task), count), count
