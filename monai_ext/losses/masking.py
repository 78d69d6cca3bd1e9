"""Leaving voxels out of a loss completely: neither their values nor their gradients count, not even a NaN."""

from __future__ import annotations

import torch


def checked_mask(pred: torch.Tensor, mask: torch.Tensor | None, who: str) -> torch.Tensor:
    """Voxels that count, bool (B, 1, spatial axes); all of them for ``None``.

    Args:
        pred: (B, C, spatial axes).
        mask: (B, 1, spatial axes) or None.
        who: name of the loss, for the error message.

    Raises:
        ValueError: when ``mask`` doesn't have one channel and the size of ``pred``.
    """
    expected = (pred.shape[0], 1, *pred.shape[2:])
    if mask is None:
        return torch.ones(expected, dtype=torch.bool, device=pred.device)
    if mask.shape != expected:
        raise ValueError(
            f"{who}: mask must have shape {expected} for a prediction of {tuple(pred.shape)}, got {tuple(mask.shape)}"
        )
    return mask.bool()


def check_target(pred: torch.Tensor, target: torch.Tensor, channels: int, who: str) -> None:
    """Check that the target has this many channels and the size of ``pred``.

    Args:
        pred: (B, C, spatial axes).
        target: (B, channels, spatial axes).
        channels: expected number of channels.
        who: name of the loss, for the error message.

    Raises:
        ValueError: for another shape.
    """
    expected = (pred.shape[0], channels, *pred.shape[2:])
    if target.shape != expected:
        raise ValueError(
            f"{who}: target must have shape {expected} for a prediction of {tuple(pred.shape)}, "
            f"got {tuple(target.shape)}"
        )


def without(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """``values`` in at least float32, 0 where ``mask`` is False; the gradient there is exactly 0."""
    values = values if values.dtype == torch.float64 else values.float()
    return values.masked_fill(~mask, 0.0)


def masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over the channels and voxels that count; see `counted` where there are none."""
    return counted(without(values, mask).sum() / (mask.sum() * values.shape[1]).clamp(min=1), mask)


def counted(loss: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The loss, and NaN with a gradient of 0 where no voxel counts: 0 would be the best loss that there is."""
    return loss.masked_fill(~mask.any(), float("nan"))


def check_values(target: torch.Tensor, low: int, high: int, who: str) -> None:
    """Check the range of a target; only on the CPU, because that would stall a GPU in every step.

    Args:
        target: any shape.
        low: smallest value.
        high: largest value.
        who: name of the loss, for the error message.

    Raises:
        ValueError: when a value is out of range.
    """
    if target.device.type != "cpu" or target.numel() == 0:
        return
    least, most = target.aminmax()
    if not (low <= least and most <= high):
        raise ValueError(
            f"{who}: target must be from {low} to {high} where it counts, got values from {float(least):g} to "
            f"{float(most):g}; rescale it, or leave these voxels out"
        )
