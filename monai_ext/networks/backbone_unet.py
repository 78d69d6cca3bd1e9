"""U-Net whose encoder is a slice classifier's, so that training can start from a classifier's weights.

Reference: MONAI's ``FlexibleUNet``, whose decoder it is. MONAI's own 2-D encoders differ from torchvision's: ResNet-18
has no convolutions on its shortcuts, and weights from there (or from a classifier of ours) fit in part only.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from monai.networks.nets import FlexibleUNet

from monai_ext.errors import ConfigError
from monai_ext.networks.slice_backbones import SliceResNet


class BackboneUNet(FlexibleUNet):
    """Segmentation of slices. It can be traced at one size (320 x 320, say), not scripted.

    Args:
        backbone: ``"resnet18"`` or ``"resnet50"``.
        in_channels: channels of a slice.
        out_channels: channels of the mask.

    Shapes: input (B, in_channels, Y, X), Y and X multiples of 32; output logits (B, out_channels, Y, X).

    Attributes:
        stages: the encoder, for `monai_ext.handlers.ProgressiveUnfreeze`.

    Raises:
        ConfigError: for another backbone.
        ValueError: in the call, for an input of another size.
    """

    head_prefixes: ClassVar[tuple[str, ...]] = ("decoder.", "segmentation_head.")
    ignored_prefixes: ClassVar[tuple[str, ...]] = ("head.", "attention.", "fc.")
    stages = (("encoder",),)

    def __init__(self, backbone: str = "resnet18", in_channels: int = 1, out_channels: int = 1) -> None:
        if backbone not in _ENCODERS:
            raise ConfigError(f"BackboneUNet: backbone must be one of {', '.join(_ENCODERS)}, got {backbone!r}")
        super().__init__(in_channels, out_channels, backbone, is_pad=False)
        self.encoder = _Encoder(*_ENCODERS[backbone], in_channels)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if inputs.shape[2] % 32 != 0 or inputs.shape[3] % 32 != 0:
            raise ValueError(
                f"BackboneUNet: Y and X must be multiples of 32, got {list(inputs.shape[2:])}; pad or resize slices"
            )
        return super().forward(inputs)

    def adapt_state_dict(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Take a classifier's backbone, or a bare one in torchvision's names (called by `load_pretrained`).

        Args:
            state: weights of the file by name, without wrappers such as ``module.``.
        """
        if any(key.startswith("encoder.") for key in state):
            return state
        state = {key.removeprefix("backbone."): value for key, value in state.items()}
        return {f"encoder.{key}": value for key, value in self.encoder.adapt_state_dict(state).items()}


class _Encoder(SliceResNet):
    """Feature maps at strides 2, 4, 8, 16 and 32."""

    def __init__(self, block: str, layers: list[int], in_channels: int) -> None:
        super().__init__(layers, in_channels, block)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:  # type: ignore[override]
        half = self.act(self.bn1(self.conv1(x)))
        quarter = self.layer1(self.maxpool(half))
        eighth = self.layer2(quarter)
        sixteenth = self.layer3(eighth)
        return [half, quarter, eighth, sixteenth, self.layer4(sixteenth)]


_ENCODERS = {"resnet18": ("basic", [2, 2, 2, 2]), "resnet50": ("bottleneck", [3, 4, 6, 3])}
