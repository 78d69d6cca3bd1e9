"""Batches for the engines: images without labels, images with several targets, and batches in parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from monai_ext.memory import is_out_of_memory

# Predictions and labels of one batch: a tensor, or one for each target.
Tensors = torch.Tensor | Mapping[str, torch.Tensor]


def image_only(
    batch: dict[str, Any], device: Any = None, non_blocking: bool = False, **kwargs: Any
) -> tuple[torch.Tensor, None]:
    """``prepare_batch`` for inference, where some cases of a batch may have a label and others not.

    Args:
        batch: a batch of the data loader, with ``image`` (B, C, ...).
        device: device to move the image to; ``None`` leaves it where it is.
        non_blocking: whether to copy from page-locked memory while the host goes on.
        kwargs: other arguments of `torch.Tensor.to`.
    """
    return batch["image"].to(device=device, non_blocking=non_blocking, **kwargs), None


def items_only(
    batch: dict[str, Any], device: Any = None, non_blocking: bool = False, **kwargs: Any
) -> tuple[dict[str, Any], None]:
    """``prepare_batch`` for inferers that read their volumes themselves: the batch as it is, without labels.

    Args:
        batch: a batch of the data loader.
        device: not used, as are the following.
        non_blocking: not used.
        kwargs: not used.
    """
    return batch, None


class ImageAndTargets:
    """``prepare_batch`` for networks with several targets: the image, and a dict of target → labels.

    Args:
        targets: their names, which are keys of the batch (a mapping gives its keys).
    """

    def __init__(self, targets: Sequence[str] | Mapping[str, Any]) -> None:
        self.targets = list(targets)

    def __call__(
        self, batch: dict[str, Any], device: Any = None, non_blocking: bool = False, **kwargs: Any
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        def move(key: str) -> torch.Tensor:
            return batch[key].to(device=device, non_blocking=non_blocking, **kwargs)

        return move("image"), {name: move(name) for name in self.targets}


def prepared_where_it_fits(engine: Any, batch: dict[str, Any]) -> tuple[Any, Any, bool]:
    """Images and labels of a batch by the engine's ``prepare_batch``, and whether they are on its device: where its
    memory is full they stay on the host, to be moved in parts.

    Args:
        engine: a trainer or evaluator of MONAI.
        batch: a batch of its data loader.

    Raises:
        RuntimeError: any that ``prepare_batch`` raises, other than for a full memory of the device.
        MemoryError: when the memory of the host is full.
    """
    for device, fits in ((engine.state.device, True), (torch.device("cpu"), False)):
        try:
            images, labels, *_ = engine.prepare_batch(batch, device, engine.non_blocking, **engine.to_kwargs)
        except (RuntimeError, MemoryError) as error:
            if not fits or not is_out_of_memory(error):
                raise
            continue
        break
    return images, labels, fits


def moved(tensors: Tensors, device: Any, non_blocking: bool = False) -> Any:
    """The tensors on a device; those that are there already aren't copied."""
    if isinstance(tensors, torch.Tensor):
        return tensors.to(device, non_blocking=non_blocking)
    return {name: tensor.to(device, non_blocking=non_blocking) for name, tensor in tensors.items()}


def split(tensors: Tensors, size: int) -> Iterator[Any]:
    """Parts of ``size`` samples each; the last one may be smaller."""
    if isinstance(tensors, torch.Tensor):
        yield from tensors.split(size)
        return
    parts = zip(*(tensor.split(size) for tensor in tensors.values()), strict=True)
    yield from (dict(zip(tensors, part, strict=True)) for part in parts)


def detached(tensors: Tensors) -> Any:
    """The tensors without gradients."""
    if isinstance(tensors, torch.Tensor):
        return tensors.detach()
    return {name: tensor.detach() for name, tensor in tensors.items()}


def joined(parts: Sequence[Tensors]) -> Any:
    """Join the parts that `split` made."""
    first = parts[0]
    if len(parts) == 1:
        return first
    if isinstance(first, torch.Tensor):
        return torch.cat(list(parts))  # type: ignore[arg-type]
    return {name: torch.cat([part[name] for part in parts]) for name in first}  # type: ignore[index]


def samples(output: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A dictionary for each sample of an engine's output: views, with scalars repeated, nothing read from a device."""

    def one(value: Any, number: int) -> Any:
        if isinstance(value, Mapping):
            return {name: one(each, number) for name, each in value.items()}
        return value[number] if isinstance(value, torch.Tensor) and value.ndim else value

    return [{name: one(value, number) for name, value in output.items()} for number in range(len(output["image"]))]
