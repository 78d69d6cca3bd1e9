"""Multi-label classification of slices: a 2-D backbone, attention, pooled features of some depths, and a head."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import torch
from monai.networks.blocks import ChannelSELayer
from torch import nn

from monai_ext.networks.cbam import CBAM
from monai_ext.networks.slice_backbones import BACKBONES
from monai_ext.networks.weights import load_pretrained

_HIDDEN = 512
_LAST_LAYER = "head.4."
_REDUCTION = 16
_ATTENTIONS = ("none", "se", "cbam")


class SliceClassifier(nn.Module):
    """Multi-label logits of a slice, or of a slice and its neighbours on the channel axis.

    The backbones are torchvision's in everything they compute (see `monai_ext.networks.slice_backbones`). ``head`` is
    dropout, a hidden layer of 512, ReLU, half the dropout, and a linear layer.

    Args:
        backbone: ``"resnet18"``, ``"resnet50"``, ``"resnet101"`` or ``"efficientnet_b0"``.
        num_classes: number of labels.
        in_channels: 1 for a slice, 3 for three neighbours.
        attention: ``"none"``, ``"se"`` (squeeze and excitation, arXiv:1709.01507) or ``"cbam"`` on the last feature
            map, before it is pooled; reduction 16.
        multiscale: join pooled features of strides 8, 16 and 32, instead of stride 32 alone.
        dropout: probability of dropping a pooled feature in training.
        pretrained_path: path of ImageNet weights in torchvision's key names; the rest keeps its random values.

    Shapes: input (B, in_channels, Y, X); logits (B, num_classes). ``backbone(x)`` is the last feature map
    (B, C, Y/32, X/32).

    Attributes:
        num_features: length of the vectors from `forward_features`.
        stages: names of the backbone's modules by stage, the last stage first (see
            `monai_ext.handlers.ProgressiveUnfreeze`).

    Raises:
        ValueError: when an argument is out of range.
        WeightsError: when the pretrained weights don't fit.
    """

    head_prefixes: ClassVar[tuple[str, ...]] = ("head.", "attention.")
    ignored_prefixes: ClassVar[tuple[str, ...]] = ("fc.", "classifier.")

    def __init__(
        self,
        backbone: str = "resnet50",
        num_classes: int = 18,
        in_channels: int = 1,
        attention: str = "none",
        multiscale: bool = False,
        dropout: float = 0.3,
        pretrained_path: str | Path | None = None,
    ) -> None:
        super().__init__()
        for name, choice, choices in (("backbone", backbone, BACKBONES), ("attention", attention, _ATTENTIONS)):
            if choice not in choices:
                raise ValueError(f"SliceClassifier: {name} must be one of {', '.join(choices)}, got {choice!r}")
        for name, value in (("num_classes", num_classes), ("in_channels", in_channels)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"SliceClassifier: {name} must be an integer of at least 1, got {value!r}")
        if not 0 <= dropout < 1:
            raise ValueError(f"SliceClassifier: dropout must be in [0, 1), got {dropout!r}")
        self.backbone = BACKBONES[backbone](in_channels)
        scales = self.backbone.scales
        self.attention = _attention(attention, scales[-1])
        self.multiscale = multiscale
        self.num_features = sum(scales) if multiscale else scales[-1]
        self.stages = [[f"backbone.{name}" for name in stage] for stage in self.backbone.stages]
        self.head = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(self.num_features, _HIDDEN),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout / 2),
            nn.Linear(_HIDDEN, num_classes),
        )
        if pretrained_path:
            load_pretrained(self, pretrained_path)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Pooled features (B, num_features) of slices.

        Args:
            x: slices (B, in_channels, Y, X).
        """
        scales = self.backbone.forward_scales(x)
        last = self.attention(scales[-1]).mean((2, 3))
        if not self.multiscale:
            return last
        return torch.cat([scales[0].mean((2, 3)), scales[1].mean((2, 3)), last], dim=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.forward_features(x))

    @staticmethod
    def with_classes(state: Mapping[str, torch.Tensor], positions: range) -> dict[str, torch.Tensor]:
        """Weights of the same network with some of its classes alone: of its last layer only their rows are kept.

        Args:
            state: weights of a whole network.
            positions: numbers of the classes to keep, from 0.
        """
        chosen = slice(positions.start, positions.stop)
        return {key: value[chosen].clone() if key.startswith(_LAST_LAYER) else value for key, value in state.items()}

    def adapt_state_dict(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Put a file of the backbone alone in its place (called by `load_pretrained`).

        Args:
            state: weights of the file by name, without wrappers such as ``module.``.
        """
        if any(key.startswith("backbone.") for key in state):
            return state
        own = self.backbone.state_dict()
        adapted = self.backbone.adapt_state_dict(state)
        return {f"backbone.{key}" if key in own else key: value for key, value in adapted.items()}


def _attention(name: str, channels: int) -> nn.Module:
    if name == "se":
        return ChannelSELayer(2, channels, r=_REDUCTION)
    return CBAM(channels, _REDUCTION) if name == "cbam" else nn.Identity()
