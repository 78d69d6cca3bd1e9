"""2-D backbones that compute what torchvision's do, on MONAI's ResNet and EfficientNet.

Papers: He et al., arXiv:1512.03385; Tan and Le, arXiv:1905.11946.
Reference: https://github.com/pytorch/vision (``models/resnet.py``, ``models/efficientnet.py``).

Files in torchvision's key names load; their classifier is ignored. The first convolution of such a file is made for
three colours: other numbers of input channels get its sum over them, divided by the number of channels. One channel
then gives the same features as three equal colours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar

import torch
from monai.networks.nets import EfficientNetBN, ResNet
from torch import nn


class SliceResNet(ResNet):
    """ResNet; the keys are torchvision's.

    Args:
        layers: number of blocks in each of the four stages.
        in_channels: channels of an input.
        block: ``"bottleneck"``, or ``"basic"`` for the shallow ones.

    Shapes: input (B, in_channels, Y, X); last feature map (B, 2048, Y/32, X/32), with basic blocks (B, 512, ...).

    Attributes:
        scales: channels at strides 8, 16 and 32.
        stages: names of the modules of each stage, the last one first.
    """

    ignored_prefixes: ClassVar[tuple[str, ...]] = ("fc.",)
    stages = (("layer4",), ("layer3",), ("layer2",), ("layer1",), ("conv1", "bn1"))

    def __init__(self, layers: list[int], in_channels: int = 3, block: str = "bottleneck") -> None:
        super().__init__(
            block=block,
            layers=layers,
            block_inplanes=[64, 128, 256, 512],
            spatial_dims=2,
            n_input_channels=in_channels,
            conv1_t_stride=2,
            feed_forward=False,
            bias_downsample=False,
        )
        self.scales = (128, 256, 512) if block == "basic" else (512, 1024, 2048)

    def forward_scales(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Feature maps at strides 8, 16 and 32."""
        x = self.layer1(self.maxpool(self.act(self.bn1(self.conv1(x)))))
        fine = self.layer2(x)
        middle = self.layer3(fine)
        return [fine, middle, self.layer4(middle)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.forward_scales(x)[-1]

    def adapt_state_dict(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Fit the first convolution of a file to this network (called by `load_pretrained`)."""
        return _fit_colours(state, "conv1.weight", self.conv1.in_channels)


class SliceEfficientNet(EfficientNetBN):
    """EfficientNet-B0; the keys are MONAI's, torchvision's are translated on loading.

    MONAI's own differs from torchvision's in the epsilon and momentum of its batch norms, and in its padding, which
    depends on the size of the image and is uneven. Both are torchvision's here.

    Args:
        in_channels: channels of an input.

    Shapes: input (B, in_channels, Y, X); last feature map (B, 1280, Y/32, X/32).

    Attributes:
        scales: channels at strides 8, 16 and 32.
        stages: names of the modules of each stage, the last one first.
    """

    ignored_prefixes: ClassVar[tuple[str, ...]] = ("classifier.",)
    scales = (40, 112, 1280)
    stages = (
        ("_conv_head", "_bn1"),
        *((f"_blocks.{number}",) for number in reversed(range(7))),
        ("_conv_stem", "_bn0"),
    )

    def __init__(self, in_channels: int = 3) -> None:
        super().__init__(
            "efficientnet-b0",
            pretrained=False,
            spatial_dims=2,
            in_channels=in_channels,
            norm=("batch", {"eps": 1e-5, "momentum": 0.1}),
        )
        del self._fc
        for module in list(self.modules()):
            for name, child in list(module.named_children()):
                if name.endswith("_padding"):
                    setattr(module, name, nn.Identity())
                elif isinstance(child, nn.Conv2d):
                    child.padding = tuple(size // 2 for size in child.kernel_size)

    def forward_scales(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Feature maps at strides 8, 16 and 32."""
        x = self._swish(self._bn0(self._conv_stem(x)))
        scales: list[torch.Tensor] = []
        for number, blocks in enumerate(self._blocks):
            x = blocks(x)
            if number in (2, 4):
                scales.append(x)
        scales.append(self._swish(self._bn1(self._conv_head(x))))
        return scales

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.forward_scales(inputs)[-1]

    def adapt_state_dict(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Translate torchvision's keys and fit the first convolution to this network (called by `load_pretrained`)."""
        own = dict(self._torchvision_modules())
        renamed = {}
        for key, value in state.items():
            module, _, tensor = key.rpartition(".")
            renamed[f"{own[module]}.{tensor}" if module in own else key] = value
        return _fit_colours(renamed, "_conv_stem.weight", self.in_channels)

    def _torchvision_modules(self) -> Iterator[tuple[str, str]]:
        """Names of a module with weights in torchvision and here."""
        yield from (("features.0.0", "_conv_stem"), ("features.0.1", "_bn0"))
        yield from (("features.8.0", "_conv_head"), ("features.8.1", "_bn1"))
        for stage, blocks in enumerate(self._blocks):
            for place, (name, block) in enumerate(blocks.named_children()):
                layers = [
                    ("0", "_depthwise_conv"),
                    ("1", "_bn1"),
                    ("fc1", "_se_reduce"),
                    ("fc2", "_se_expand"),
                    ("0", "_project_conv"),
                    ("1", "_bn2"),
                ]
                if block.expand_ratio != 1:
                    layers = [("0", "_expand_conv"), ("1", "_bn0"), *layers]
                for number, (theirs, ours) in enumerate(layers):
                    there = f"features.{stage + 1}.{place}.block.{number // 2}.{theirs}"
                    yield there, f"_blocks.{stage}.{name}.{ours}"


BACKBONES: dict[str, Callable[[int], SliceResNet | SliceEfficientNet]] = {
    "resnet18": lambda channels: SliceResNet([2, 2, 2, 2], channels, "basic"),
    "resnet50": lambda channels: SliceResNet([3, 4, 6, 3], channels),
    "resnet101": lambda channels: SliceResNet([3, 4, 23, 3], channels),
    "efficientnet_b0": SliceEfficientNet,
}


def _fit_colours(state: dict[str, torch.Tensor], key: str, channels: int) -> dict[str, torch.Tensor]:
    stem = state.get(key)
    if stem is None or stem.ndim != 4 or stem.shape[1] == channels:
        return state
    return {**state, key: stem.sum(1, keepdim=True).repeat(1, channels, 1, 1) / channels}
