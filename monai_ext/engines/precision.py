"""The number format that a step computes in."""

from __future__ import annotations

from typing import Any

import torch

from monai_ext.errors import ConfigError

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def autocast_dtype(device: Any, amp: bool | str = "auto", precision: str = "auto") -> torch.dtype | None:
    """Type for `torch.autocast`, or ``None`` for plain float32.

    Args:
        device: name or `torch.device` where the network runs.
        amp: ``True``, ``False`` or ``"auto"``: on a GPU only.
        precision: ``"auto"`` takes fp16 on a GPU (as the original pipelines did) and bf16 on a CPU; ``"fp32"``
            switches mixed precision off; ``"bf16"`` and ``"fp16"`` switch it on.

    Raises:
        ConfigError: for an unknown word, or fp16 on a CPU, whose gradients would underflow without a scaler.
    """
    kind = torch.device(device).type
    if amp not in (True, False, "auto"):
        raise ConfigError(f"--amp {amp}: give True, False or auto")
    if precision not in (*PRECISIONS, "auto"):
        raise ConfigError(f"--precision {precision}: unknown (choices: auto, {', '.join(PRECISIONS)})")
    if precision == "fp32" or amp is False:
        return None
    if precision == "auto":
        wanted = kind == "cuda" if amp == "auto" else amp
        return None if not wanted else torch.float16 if kind == "cuda" else torch.bfloat16
    if precision == "fp16" and kind == "cpu":
        raise ConfigError("--precision fp16: not on a CPU; bf16 is the mixed precision there")
    return PRECISIONS[precision]


class Autocast:
    """The number format of a run, named once for its training and its evaluation steps.

    Args:
        amp, precision: see `autocast_dtype`.
    """

    def __init__(self, amp: bool | str = "auto", precision: str = "auto") -> None:
        self.amp = amp
        self.precision = precision

    def dtype(self, device: Any) -> torch.dtype | None:
        """Type for `torch.autocast` on a device, or ``None`` for plain float32.

        Args:
            device: name or `torch.device` where the network runs.

        Raises:
            ConfigError: see `autocast_dtype`.
        """
        return autocast_dtype(device, self.amp, self.precision)


def one_autocast(autocast: Autocast | None, amp: bool | str, precision: str) -> Autocast:
    """The given number format, or that of the two words.

    Raises:
        ConfigError: when both are given.
    """
    if autocast is None:
        return Autocast(amp, precision)
    if (amp, precision) != ("auto", "auto"):
        raise ConfigError("amp and precision belong to autocast; set --autocast#amp and --autocast#precision")
    return autocast
