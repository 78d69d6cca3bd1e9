"""Which of several processes this one is, as their launcher says."""

from __future__ import annotations

import os
from collections.abc import Mapping

from monai_ext.devices import launcher_number as _number


def part_of_launcher(environment: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """Number of this process, from 0, and how many there are; (0, 1) without a launcher.

    ``torchrun`` sets ``RANK`` and ``WORLD_SIZE``. SLURM sets ``SLURM_PROCID`` and ``SLURM_STEP_NUM_TASKS`` under
    ``srun``, and ``SLURM_ARRAY_TASK_ID``, ``_MIN`` and ``_COUNT`` in array jobs; in an array of jobs with several tasks
    each, both count.

    Raises:
        ConfigError: when one of them isn't a number.
    """
    if "RANK" in environment and "WORLD_SIZE" in environment:
        return _number(environment, "RANK"), _number(environment, "WORLD_SIZE")
    part, parts = 0, 1
    if "SLURM_ARRAY_TASK_ID" in environment:
        step = _number(environment, "SLURM_ARRAY_TASK_STEP", 1)
        part = (_number(environment, "SLURM_ARRAY_TASK_ID") - _number(environment, "SLURM_ARRAY_TASK_MIN", 0)) // step
        parts = _number(environment, "SLURM_ARRAY_TASK_COUNT", part + 1)
    # The script of a batch job has a number, too, and SLURM_NTASKS, but is one process whatever srun is to start.
    if "SLURM_STEP_NUM_TASKS" in environment:
        tasks = _number(environment, "SLURM_STEP_NUM_TASKS")
        part, parts = part * tasks + _number(environment, "SLURM_PROCID"), parts * tasks
    return part, parts
