"""MedicalNet's dilated 3-D ResNet-50 as a classifier, on MONAI's ResNet.

Paper: Chen et al., Med3D: Transfer Learning for 3D Medical Image Analysis, arXiv:1904.00625.
Reference: https://github.com/Tencent/MedicalNet (``models/resnet.py``, shortcut B).
"""

from __future__ import annotations

import warnings
from typing import ClassVar

import torch
from monai.networks.nets import ResNet
from torch import nn

_FEATURES = 2048


class MedicalNetResNet50(ResNet):
    """ResNet-50 over a whole volume: 7³ stem with stride 2, max-pool, bottlenecks [3, 4, 6, 3], global average pool.

    MONAI's ``resnet50`` has the same keys, but by default another stem stride, and no dilation. Where we differ from
    MedicalNet: its segmentation head (``conv_seg.*``) is replaced by dropout and a linear layer (``fc.1.*``), and
    ``dilated`` is off by default, which makes layers 3 and 4 eight and sixty-four times cheaper. Weights load in both
    forms, but only the dilated network computes the features that they were trained for.

    Args:
        in_channels: number of images (modalities) on the channel axis.
        num_classes: number of logits.
        dropout: probability of dropping a pooled feature in training.
        dilated: layers 3 and 4 with stride 1 and dilation 2 and 4, as MedicalNet, instead of stride 2.

    Shapes: input (B, in_channels, Z, Y, X), z-scored; logits (B, num_classes). Z, Y and X can be anything from 32 up
    (in evaluation; batch norm in training needs more than one value per channel in layer 4).

    Raises:
        ValueError: when an argument is out of range.
    """

    head_prefixes: ClassVar[tuple[str, ...]] = ("fc.",)
    ignored_prefixes: ClassVar[tuple[str, ...]] = ("conv_seg.",)

    def __init__(self, in_channels: int = 1, num_classes: int = 2, dropout: float = 0.5, dilated: bool = False) -> None:
        for name, value in (("in_channels", in_channels), ("num_classes", num_classes)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"MedicalNetResNet50: {name} must be an integer of at least 1, got {value!r}")
        if not 0 <= dropout < 1:
            raise ValueError(f"MedicalNetResNet50: dropout must be in [0, 1), got {dropout!r}")
        if not isinstance(dilated, bool):
            raise ValueError(f"MedicalNetResNet50: dilated must be true or false, got {dilated!r}")
        super().__init__(
            block="bottleneck",
            layers=[3, 4, 6, 3],
            block_inplanes=[64, 128, 256, 512],
            spatial_dims=3,
            n_input_channels=in_channels,
            conv1_t_stride=2,
            shortcut_type="B",
            feed_forward=False,
            bias_downsample=False,
        )
        self.dilated = dilated
        self.fc = nn.Sequential(nn.Dropout(dropout), nn.Linear(_FEATURES, num_classes))
        if dilated:
            _dilate(self.layer3, 2)
            _dilate(self.layer4, 4)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Pooled features (B, 2048) of a volume.

        Args:
            x: volumes (B, in_channels, Z, Y, X), z-scored.
        """
        x = self.maxpool(self.act(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return torch.flatten(self.avgpool(x), 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.forward_features(x))

    def adapt_state_dict(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Fit a file's tensors to this network (called by `load_pretrained`).

        A one-channel stem is repeated over ``in_channels`` and divided by their number, so that equal channels give
        the response of one.

        Args:
            state: weights of the file by name, without wrappers such as ``module.``.
        """
        stem = state.get("conv1.weight")
        channels = self.conv1.in_channels
        if stem is not None and stem.ndim == 5 and stem.shape[1] == 1 and channels > 1:
            state = {**state, "conv1.weight": stem.repeat(1, channels, 1, 1, 1) / channels}
        from_medicalnet = stem is not None and "fc.1.weight" not in state
        if from_medicalnet and not self.dilated:
            warnings.warn(
                "MedicalNet's weights were trained with dilated layers 3 and 4; without them the features differ "
                "(cosine 0.979 to MedicalNet's). Set dilated=True to have MedicalNet's features, at a higher cost.",
                UserWarning,
                stacklevel=3,
            )
        return state


def _dilate(layer: nn.Sequential, dilation: int) -> None:
    for module in layer.modules():
        if isinstance(module, nn.Conv3d):
            module.stride = (1, 1, 1)
            if module.kernel_size == (3, 3, 3):
                module.dilation = module.padding = (dilation,) * 3
