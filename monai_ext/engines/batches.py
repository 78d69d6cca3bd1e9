"""Batches for engines that have no labels."""

from __future__ import annotations

from typing import Any

import torch


def image_only(
    batch: dict[str, Any], device: Any = None, non_blocking: bool = False, **kwargs: Any
) -> tuple[torch.Tensor, None]:
    """``prepare_batch`` for inference, where some cases of a batch may have a label and others not."""
    return batch["image"].to(device=device, non_blocking=non_blocking, **kwargs), None
