"""Labels of a multi-label loss: 0, 1, or the fractions from CutMix and MixUp."""

from __future__ import annotations

import torch


def logits_and_labels(input: torch.Tensor, target: torch.Tensor, who: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Both in at least float32 (float64 stays float64), checked.

    Values are checked only on the CPU, because that would stall a GPU in every step.

    Args:
        input: logits (B, C).
        target: labels (B, C), 0 to 1.
        who: name of the loss, for the error message.

    Raises:
        ValueError: for labels of another shape than the logits, or outside [0, 1].
    """
    if input.ndim != 2 or target.shape != input.shape:
        raise ValueError(
            f"{who}: logits and labels must both have shape (B, C), got {tuple(input.shape)} and {tuple(target.shape)}"
        )
    logits = input if input.dtype == torch.float64 else input.float()
    labels = target.to(logits.dtype)
    if labels.device.type == "cpu" and labels.numel() and not torch.compiler.is_compiling():
        least, most = labels.aminmax()
        if not (least >= 0 and most <= 1):
            raise ValueError(
                f"{who}: labels must be from 0 to 1, got values from {float(least):g} to {float(most):g}; "
                "leave samples without labels out"
            )
    return logits, labels
