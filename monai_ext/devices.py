"""The device that a process computes on: its own GPU where several processes share a machine."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from monai_ext.errors import ConfigError

if TYPE_CHECKING:
    import torch


def launcher_number(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    """A number that a launcher (``torchrun``, SLURM) has put into the environment.

    Raises:
        ConfigError: when it isn't a number, or is missing and has no default.
    """
    value = environment.get(name, default)
    try:
        return int(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ConfigError(f"{name} must be a number, got {value!r}; unset it, or start by torchrun or srun") from None


def local_rank(environment: Mapping[str, str] = os.environ) -> int:
    """Number of this process on its machine, from 0: ``LOCAL_RANK`` (``torchrun``), else ``SLURM_LOCALID``."""
    name = "LOCAL_RANK" if "LOCAL_RANK" in environment else "SLURM_LOCALID"
    return launcher_number(environment, name, 0)


def local_processes(environment: Mapping[str, str] = os.environ) -> int:
    """Number of processes that the launcher starts per machine, the largest where they differ; 1 without a launcher."""
    if "LOCAL_WORLD_SIZE" in environment:
        return launcher_number(environment, "LOCAL_WORLD_SIZE")
    # such as "4(x2),3"; the script of a batch job, which is one process whatever srun is to start, doesn't have it
    counts = re.findall(r"\b\d+", environment.get("SLURM_STEP_TASKS_PER_NODE", ""))
    return max(map(int, counts), default=1)


def started_processes(environment: Mapping[str, str] = os.environ) -> int:
    """Number of processes the launcher started: ``WORLD_SIZE``, else the tasks of a step of ``srun``, else 1."""
    name = "WORLD_SIZE" if "WORLD_SIZE" in environment else "SLURM_STEP_NUM_TASKS"
    return launcher_number(environment, name, 1)


def own_device(device: Any = None) -> torch.device:
    """A device as this process has it: ``cuda`` without a number becomes ``cuda:`` with that of its own GPU.

    The own GPU is that of the `local_rank`, counted again from the first where there are fewer GPUs: under SLURM each
    task may see all GPUs of its machine, or only its own.

    Args:
        device: name or `torch.device`; ``None`` for a GPU where there is one, else the CPU.
    """
    import torch

    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = torch.device(device)
    if chosen.type == "cuda" and chosen.index is None:
        return torch.device("cuda", local_rank() % max(1, torch.cuda.device_count()))
    return chosen


def user_device(device: Any, setting: str = "device") -> torch.device:
    """The `own_device` for a setting, after a check that it can be used.

    Args:
        device: what the user gave, or a `torch.device` that was chosen for this process.
        setting: its name, for the message.

    Raises:
        ConfigError: for a device that isn't on this machine, or one GPU by number for several processes.
    """
    import torch

    available = ["cpu"] + [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        available.append("mps")
    what = f"--{setting} {device}"
    try:
        chosen = own_device(device)
    except (RuntimeError, TypeError) as error:
        raise ConfigError(f"{what}: not a device name; this machine has {', '.join(available)}") from error
    if str(chosen) not in available:
        raise ConfigError(f"{what}: not on this machine, which has {', '.join(available)}")
    by_number = not isinstance(device, torch.device) and chosen.type == "cuda" and torch.device(device) == chosen
    if by_number and local_processes() > 1:
        raise ConfigError(
            f"{what}: all {local_processes()} processes of a machine would take this one GPU; give --{setting} cuda, "
            "and each takes its own"
        )
    return chosen
