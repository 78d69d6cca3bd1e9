"""The networks of the bundles at real sizes: those of their default configs, or larger ones that are usual."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch

from monai_ext.networks import VGG3D, CordUNet, MedicalNetResNet50, SliceClassifier, SurfaceUNet

QUICK = "ResNet50-3D 64³"
DILATED = "dilated ResNet50-3D 128³"
LARGE = "surface U-Net 64×192×192"
"""Takes many seconds a call."""
NETWORKS: dict[str, tuple[Callable[[], torch.nn.Module], tuple[int, ...]]] = {
    "VGG3D 80³": (VGG3D, (1, 1, 80, 80, 80)),
    QUICK: (MedicalNetResNet50, (1, 1, 64, 64, 64)),
    "ResNet50-3D 128³": (MedicalNetResNet50, (1, 1, 128, 128, 128)),
    DILATED: (functools.partial(MedicalNetResNet50, dilated=True), (1, 1, 128, 128, 128)),
    "slice ResNet50 4×512²": (SliceClassifier, (4, 1, 512, 512)),
    "cord U-Net 8×320²": (CordUNet, (8, 1, 320, 320)),
    LARGE: (SurfaceUNet, (1, 1, 64, 192, 192)),
}


def made(name: str) -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    """A network in evaluation mode, with random weights, a batch, and one to convert the network with.

    A conversion runs the network several times: on one image, or a part of it where that takes long.
    """
    torch.manual_seed(0)
    make, shape = NETWORKS[name]
    image = torch.randn(shape)
    return make().eval(), image, image[..., :32, :64, :64] if name in (LARGE, DILATED) else image[:1]
