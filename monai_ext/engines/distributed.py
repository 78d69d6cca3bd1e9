"""The network, wrapped for training in several processes."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from monai_ext.errors import ConfigError


def distribute(network: torch.nn.Module, device: Any) -> torch.nn.Module:
    """Wrap a network for training under ``torchrun``: averaged gradients and, on GPUs, synchronised batch norm.

    Which parameters get a gradient may change from step to step: handlers freeze and release layers after the network
    has been wrapped. So the wrapper looks for those without one in every step, which costs it a walk over the graph;
    torch warns of that once where nothing is frozen.

    Args:
        network: on its device; torch has synchronised batch norm for GPUs only.
        device: this process's device.

    Raises:
        ConfigError: outside a process group.
    """
    if not torch.distributed.is_initialized():
        raise ConfigError("multi_gpu_train.json needs a launcher: torchrun --nproc_per_node=N -m monai.bundle run ...")
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu:
        network = torch.nn.SyncBatchNorm.convert_sync_batchnorm(network)
    return DistributedDataParallel(
        network, device_ids=[torch.device(device)] if on_gpu else None, find_unused_parameters=True
    )
