"""Values on any device as numpy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray


def to_numpy(value: Any, dtype: DTypeLike | None = None) -> NDArray[Any]:
    """A tensor of any device, an array, a number, or a list of these as a numpy array.

    ``np.asarray`` of a tensor works on the CPU alone: whatever leaves a device for numpy, PIL, JSON or CSV goes this
    way. Where nothing has to be copied or converted, the array shares the memory of the value.

    Args:
        value: tensor, array or number, or a list of these; a list of tensors of one shape gets an axis in front.
        dtype: of the result; ``None`` keeps that of the value, with float32 for bfloat16, which numpy doesn't have.
    """
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    elif isinstance(value, (list, tuple)):
        value = [to_numpy(item) if isinstance(item, (torch.Tensor, list, tuple)) else item for item in value]
    return np.asarray(value, dtype)
