"""Writing checkpoints that a machine without the GPU that made them can read."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch


def save_checkpoint(content: Mapping[str, Any], path: str | Path) -> None:
    """``torch.save`` of a dict of tensors and plain values, with all tensors on the CPU.

    A plain ``torch.load`` puts a tensor saved on ``cuda:1`` there again, and so by MONAI's export.

    Args:
        content: tensors and plain values by name; it is not changed.
        path: path of the file.
    """
    torch.save(_on_cpu(content, {}), path)


def _on_cpu(content: Any, storages: dict[tuple[torch.device, int], torch.UntypedStorage]) -> Any:
    """The content with tensors of other devices replaced; those that share memory share it again.

    ``storages`` keeps what has been copied, by device and address.
    """
    if isinstance(content, torch.Tensor):
        if content.device.type == "cpu":
            return content
        there = content.detach().untyped_storage()
        place = (content.device, there.data_ptr())
        if place not in storages:
            storages[place] = there.cpu()
        here = torch.empty(0, dtype=content.dtype)
        return here.set_(storages[place], content.storage_offset(), content.size(), content.stride())
    if isinstance(content, dict):
        copied = copy.copy(content)  # with its type and attributes: a state dict's versions of modules
        copied.update({key: _on_cpu(value, storages) for key, value in content.items()})
        return copied
    if isinstance(content, (list, tuple)):
        items = [_on_cpu(value, storages) for value in content]
        return items if isinstance(content, list) else tuple(items)
    return content
