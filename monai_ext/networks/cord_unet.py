"""2-D U-Net for the spinal cord and its lesions, and an optional head for whether the slice shows it.

Paper: Ronneberger et al., U-Net, arXiv:1505.04597.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from monai_ext.errors import ConfigError


class CordUNet(nn.Module):
    """Segmentation of slices; with ``visible_head``, also a logit for whether the structure is in the slice at all.

    The keys are the reference's (the spinal project's U-Net), so its files load without renaming. As there, one 3x3
    convolution without norm or activation (``input_layer``) comes before the first level. Where we differ: other
    numbers of channels, and ``visible_head``, which is ours.

    Args:
        in_channels: channels of a slice.
        out_channels: channels of the mask.
        depth: levels above the bottleneck; each halves the size.
        features: feature maps of the finest level; every level has twice the maps of the one before.
        visible_head: predict whether the cord is visible, from the bottleneck averaged over the slice.

    Shapes: input (B, in_channels, Y, X), Y and X multiples of ``2 ** depth``; output logits (B, out_channels, Y, X).
    With ``visible_head`` a dict: ``cord`` these logits, ``visible`` logits (B, 1).

    Attributes:
        stages: names of the modules before the heads, the last first (see `monai_ext.networks.fine_tuning_stages`).

    Raises:
        ConfigError: when an argument is out of range.
        ValueError: in the call, for an input of another size.
    """

    head_prefixes: ClassVar[tuple[str, ...]] = ("output_layer.", "visible_head.")
    stages: ClassVar[tuple[str, ...]] = ("ups", "bottleneck", "downs", "input_layer")

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        depth: int = 4,
        features: int = 16,
        visible_head: bool = False,
    ) -> None:
        super().__init__()
        counts = {"in_channels": in_channels, "out_channels": out_channels, "depth": depth, "features": features}
        for name, value in counts.items():
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigError(f"CordUNet: {name} must be an integer of at least 1, got {value!r}")
        self.divisor = 2**depth
        maps = [features * 2**level for level in range(depth + 1)]
        self.input_layer = nn.Conv2d(in_channels, in_channels, 3, padding=1)
        self.downs = nn.ModuleList(_Block(*pair) for pair in zip([in_channels, *maps], maps[:-1], strict=False))
        self.bottleneck = _Block(maps[-2], maps[-1])
        self.ups = nn.ModuleList(_Up(maps[level + 1], maps[level]) for level in reversed(range(depth)))
        self.output_layer = nn.Conv2d(features, out_channels, 1)
        self.visible_head = nn.Linear(maps[-1], 1) if visible_head else None

    def forward(self, x: torch.Tensor) -> torch.Tensor | dict[str, torch.Tensor]:
        if x.shape[2] % self.divisor != 0 or x.shape[3] % self.divisor != 0:
            raise ValueError(
                f"CordUNet: Y and X must be multiples of {self.divisor}, got {list(x.shape[2:])}; pad or resize slices"
            )
        x = self.input_layer(x)
        skips: list[torch.Tensor] = []
        for down in self.downs:
            x = down(x)
            skips.append(x)
            x = torch.max_pool2d(x, 2)
        deepest = self.bottleneck(x)
        x = deepest
        for level, up in enumerate(self.ups):
            x = up(x, skips[-1 - level])
        cord = self.output_layer(x)
        if self.visible_head is not None:
            return {"cord": cord, "visible": self.visible_head(deepest.mean(dim=[2, 3]))}
        return cord


class _Block(nn.Module):
    """Two 3x3 convolutions, each with batch norm and ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self._conv_1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self._conv_2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self._bn_1 = nn.BatchNorm2d(out_channels)
        self._bn_2 = nn.BatchNorm2d(out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.convolve(x)

    def convolve(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self._bn_1(self._conv_1(x)))
        return torch.relu(self._bn_2(self._conv_2(x)))


class _Up(_Block):
    """Twice the size, joined with the features of that level (after it on the channel axis), and a block."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(2 * out_channels, out_channels)
        self._conv_up = nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return self.convolve(torch.cat([self._conv_up(x), skip], dim=1))
