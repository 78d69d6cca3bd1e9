"""VGG in 3-D, as trained on the electron microscopy of the Hemibrain, and its adapter for other classes.

Paper: Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, arXiv:1409.1556.
Reference: https://github.com/funkelab/funlib.learn.torch (``models/vgg3d.py``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import nn

from monai_ext.errors import ConfigError


class VGG3D(nn.Module):
    """Blocks of 3³ convolutions, batch norms and ReLUs, each closed by a max-pool, and three linear layers.

    The keys are the reference's (``features.<i>``, ``classifier.<0 | 3 | 6>``), so its checkpoints load without
    renaming. Where we differ: an input of another size than the network was made for raises a clear error; the
    reference fails inside a matrix product.

    Args:
        input_size: voxels (Z, Y, X) of an input.
        in_channels: channels of an input.
        num_classes: number of logits.
        fmaps: feature maps of the first block.
        fmap_inc: factor by which a block has more maps than the one before it (the last entry isn't used).
        downsample_factors: pooling (Z, Y, X) at the end of each block; their number is that of the blocks.
        n_convolutions: convolutions in each block.

    Shapes: input (B, in_channels, Z, Y, X) of ``input_size``; logits (B, num_classes).

    Attributes:
        stages: names of the modules of each block, the last block first (see
            `monai_ext.handlers.ProgressiveUnfreeze`).

    Raises:
        ConfigError: when the arguments don't fit together, or an input is too small for the poolings.
        ValueError: in the call, for an input of another size.
    """

    head_prefixes: ClassVar[tuple[str, ...]] = ("classifier.",)

    def __init__(
        self,
        input_size: Sequence[int] = (80, 80, 80),
        in_channels: int = 1,
        num_classes: int = 7,
        fmaps: int = 24,
        fmap_inc: Sequence[int] = (2, 2, 2, 2),
        downsample_factors: Sequence[Sequence[int]] = ((2, 2, 2),) * 4,
        n_convolutions: Sequence[int] = (4, 2, 2, 2),
    ) -> None:
        super().__init__()
        if not 0 < len(downsample_factors) == len(fmap_inc) == len(n_convolutions):
            raise ConfigError(
                f"VGG3D: fmap_inc, downsample_factors and n_convolutions need one entry for each block, got "
                f"{len(fmap_inc)}, {len(downsample_factors)} and {len(n_convolutions)}"
            )
        self.downsample_factors = [[int(factor) for factor in factors] for factors in downsample_factors]
        layers: list[nn.Module] = []
        blocks: list[list[str]] = []
        maps = fmaps
        for factors, increase, count in zip(self.downsample_factors, fmap_inc, n_convolutions, strict=True):
            for _ in range(count):
                layers += [nn.Conv3d(in_channels, maps, 3, padding=1), nn.BatchNorm3d(maps), nn.ReLU(inplace=True)]
                in_channels = maps
            layers.append(nn.MaxPool3d(tuple(factors), tuple(factors)))
            blocks.append([f"features.{index}" for index in range(sum(map(len, blocks)), len(layers))])
            maps *= increase
        self.features = nn.Sequential(*layers)
        self.stages = blocks[::-1]
        self.feature_maps = in_channels
        self.input_size = [int(size) for size in input_size]
        self.classifier = _classifier(self.feature_size(self.input_size), 4096, num_classes)

    def feature_size(self, input_size: Sequence[int]) -> int:
        """Number of features of an input of (Z, Y, X) voxels, without computing any.

        Args:
            input_size: voxels along Z, Y, X.

        Raises:
            ConfigError: for other than three lengths, or when the poolings leave nothing of it.
        """
        size = [int(length) for length in input_size]
        if len(size) != 3:
            raise ConfigError(f"VGG3D: input_size needs three lengths Z, Y, X, got {list(input_size)}")
        for factors in self.downsample_factors:
            size = [length // factor for length, factor in zip(size, factors, strict=True)]
        if min(size) < 1:
            least = [math.prod(factors) for factors in zip(*self.downsample_factors, strict=True)]
            raise ConfigError(f"VGG3D: an input of {list(input_size)} voxels is too small; it needs at least {least}")
        return self.feature_maps * math.prod(size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if list(x.shape[2:]) != self.input_size:
            raise ValueError(f"VGG3D: made for inputs of {self.input_size} voxels, got {list(x.shape[2:])}")
        return self.classifier(torch.flatten(self.features(x), 1))


class VGG3DAdapter(nn.Module):
    """The features of a `VGG3D` under a new, smaller classifier, for other classes and input sizes.

    Args:
        base: network whose features are used (shared, not copied); its classifier is not used.
        input_size: voxels (Z, Y, X) of an input; the base may have been made for another size.
        num_classes: number of logits.
        classifier_size: width of the two hidden layers.

    Shapes: input (B, channels, Z, Y, X) of ``input_size``; logits (B, num_classes).

    Raises:
        ConfigError, ValueError: as `VGG3D`.
    """

    head_prefixes: ClassVar[tuple[str, ...]] = ("classifier.",)

    def __init__(self, base: VGG3D, input_size: Sequence[int], num_classes: int, classifier_size: int = 512) -> None:
        super().__init__()
        self.features = base.features
        self.stages = [list(stage) for stage in base.stages]
        self.input_size = [int(size) for size in input_size]
        self.classifier = _classifier(base.feature_size(input_size), classifier_size, num_classes)
        for layer in self.classifier:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if list(x.shape[2:]) != self.input_size:
            raise ValueError(f"VGG3DAdapter: made for inputs of {self.input_size} voxels, got {list(x.shape[2:])}")
        return self.classifier(torch.flatten(self.features(x), 1))


def _classifier(features: int, hidden: int, num_classes: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(features, hidden),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Linear(hidden, hidden),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Linear(hidden, num_classes),
    )
