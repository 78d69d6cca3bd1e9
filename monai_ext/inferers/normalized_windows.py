"""MONAI's sliding window with each window normalised as a patch of the training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from monai.inferers import SlidingWindowInferer


class NormalizedWindowInferer(SlidingWindowInferer):
    """MONAI's ``SlidingWindowInferer`` for a network that was trained on patches, normalised one by one.

    `monai_ext.inferers.ZarrSlidingWindow` gives the same numbers for volumes larger than memory. The outputs of several
    targets are joined along the channels: MONAI Deploy takes one tensor.

    Args:
        normalize: from windows (B, C, ...) to the network's input, such as `monai_ext.transforms.NormalizeVolume`.
        options: arguments of ``SlidingWindowInferer``.
    """

    def __init__(self, normalize: Callable[[torch.Tensor], torch.Tensor], **options: Any) -> None:
        super().__init__(**options)
        self.normalize = normalize

    def __call__(self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        def normalized(windows: torch.Tensor, *more: Any, **others: Any) -> Any:
            found = network(self.normalize(windows), *more, **others)
            return torch.cat(list(found.values()), dim=1) if isinstance(found, Mapping) else found

        return super().__call__(inputs, normalized, *args, **kwargs)
