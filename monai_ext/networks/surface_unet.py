"""Residual U-Net with squeeze-and-excitation, one encoder and a decoder for each target.

Papers: Lee et al., Superhuman Accuracy on the SNEMI3D Connectomics Challenge, arXiv:1706.00120 (residual U-Net); Roy et
al., Concurrent Spatial and Channel Squeeze & Excitation in Fully Convolutional Networks, arXiv:1803.02579.
Reference: https://github.com/wolny/pytorch-3dunet (``ResidualUNetSE3D``), with a decoder for each task.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn.functional import interpolate
from torch.utils.checkpoint import checkpoint

from monai_ext.errors import ConfigError

_GROUPS = 8


class SurfaceUNet(nn.Module):
    """Multi-task dense prediction from one image: segmentations, or vectors such as normals.

    The keys are the reference's (``encoders.*``, ``task_decoders.<target>.*``, ``task_final_convs.<target>.*``), so its
    files load without renaming. Where we differ: its decoder of the single-task parent (``decoders.*``,
    ``final_conv.*``), which is never used, isn't built, and is ignored in its files; deep supervision is ours.

    Args:
        in_channels: channels of an input.
        targets: definition of each target by name, of which only ``channels`` matters here.
        f_maps: feature maps of each level, from the finest; every level but the first halves the size.
        deep_supervision: in training, give logits of the coarser levels as well, from heads of their own
            (``task_deep_convs.<target>.*``). They belong to the network's keys.
        checkpointing: in training, compute the blocks' inner activations again in the backward pass instead of
            keeping them: less memory, more time, the same results.

    Shapes: input (B, in_channels, Z, Y, X), each length at least ``2 ** (len(f_maps) - 1)``; output a dict of target →
    logits (B, channels, Z, Y, X). With deep supervision, in training, also ``"<target>/<level>"`` → logits of about
    1 / 2^level of that size, for the levels from 1 to ``len(f_maps) - 2``.

    Raises:
        ConfigError: when an argument is out of range.
        ValueError: in the call, for an input that is too small for the depth.
    """

    ignored_prefixes: ClassVar[tuple[str, ...]] = ("decoders.", "final_conv.")
    head_prefixes: ClassVar[tuple[str, ...]] = ("task_deep_convs.",)

    def __init__(
        self,
        in_channels: int = 1,
        targets: Mapping[str, Mapping[str, Any]] | None = None,
        f_maps: Sequence[int] = (32, 64, 128, 256, 320, 528),
        deep_supervision: bool = False,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        channels = _channels({"sheet": {"channels": 1}, "normals": {"channels": 3}} if targets is None else targets)
        f_maps = list(f_maps)
        if not _is_count(in_channels):
            raise ConfigError(f"SurfaceUNet: in_channels must be an integer of at least 1, got {in_channels!r}")
        if len(f_maps) < 2 or not all(_is_count(maps) and (maps < _GROUPS or maps % _GROUPS == 0) for maps in f_maps):
            raise ConfigError(
                "SurfaceUNet: f_maps needs two levels or more, each a multiple of "
                f"{_GROUPS} (or below it), got {f_maps}"
            )
        self.depth = len(f_maps)
        self.encoders = nn.ModuleList(
            _Encoder(before, maps, level > 0, checkpointing)
            for level, (before, maps) in enumerate(zip([in_channels, *f_maps], f_maps, strict=False))
        )
        self.task_decoders = nn.ModuleDict({name: _Decoder(f_maps, checkpointing) for name in channels})
        self.task_final_convs = nn.ModuleDict({name: nn.Conv3d(f_maps[0], n, 1) for name, n in channels.items()})
        levels = f_maps[1:-1] if deep_supervision else []
        self.task_deep_convs = nn.ModuleDict(
            {name: _DeepHeads(nn.Conv3d(maps, n, 1) for maps in levels) for name, n in channels.items()}
        )

    @staticmethod
    def target_prefixes(name: str) -> tuple[str, ...]:
        """Prefixes of a target's keys.

        A file's lack of a target is an error; ``load_pretrained(network, path, ignore=network.target_prefixes("ink"))``
        starts that one fresh.

        Args:
            name: name of the target.
        """
        return tuple(f"{part}.{name}." for part in ("task_decoders", "task_final_convs", "task_deep_convs"))

    @property
    def least_size(self) -> int:
        """Voxels that each side of a patch needs at least."""
        return 1 << (self.depth - 1)  # TorchScript takes a power for a float

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        if min(x.shape[2:]) < self.least_size:
            raise ValueError(
                f"SurfaceUNet: {self.depth} levels need at least {self.least_size} voxels along Z, Y and X, got "
                f"{list(x.shape[2:])}; take a larger patch_size or fewer f_maps"
            )
        features: list[torch.Tensor] = []
        for encoder in self.encoders:
            x = encoder(x)
            features.append(x)
        logits: dict[str, torch.Tensor] = {}
        for (name, decoder), head, deep_heads in zip(
            self.task_decoders.items(), self.task_final_convs.values(), self.task_deep_convs.values(), strict=True
        ):
            levels = decoder(features)
            logits[name] = head(levels[0])
            if self.training:
                for level, coarser in enumerate(deep_heads(levels), start=1):
                    logits[f"{name}/{level}"] = coarser
        return logits


class _Encoder(nn.Module):
    """One level down: max-pool (but for the first level) and a block."""

    def __init__(self, in_channels: int, out_channels: int, pool: bool, checkpointing: bool) -> None:
        super().__init__()
        self.pooling = nn.MaxPool3d(2) if pool else nn.Identity()
        self.basic_module = _Block(in_channels, out_channels, checkpointing)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.basic_module(self.pooling(x))


class _Decoder(nn.ModuleList):
    """All levels up; gives the features of each, the finest first."""

    def __init__(self, f_maps: Sequence[int], checkpointing: bool) -> None:
        coarse_to_fine = list(f_maps)[::-1]
        super().__init__(_Up(before, maps, checkpointing) for before, maps in pairwise(coarse_to_fine))

    def forward(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        x = features[-1]
        levels: list[torch.Tensor] = []
        for step, up in enumerate(self):
            x = up(x, features[-2 - step])
            levels.insert(0, x)
        return levels


class _DeepHeads(nn.ModuleList):
    """Logits of every level that a decoder gives, but the finest; none without deep supervision."""

    def forward(self, levels: list[torch.Tensor]) -> list[torch.Tensor]:
        logits: list[torch.Tensor] = []
        for index, head in enumerate(self):
            logits.append(head(levels[1 + index]))
        return logits


class _Up(nn.Module):
    """One level up: transposed convolution, resized to the skip connection and summed with it, and a block."""

    def __init__(self, in_channels: int, out_channels: int, checkpointing: bool) -> None:
        super().__init__()
        transposed = nn.ConvTranspose3d(in_channels, out_channels, 3, stride=2, padding=1, bias=False)
        self.upsampling = _named(upsample=_named(conv_transposed=transposed))
        self.basic_module = _Block(out_channels, out_channels, checkpointing)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        # n voxels become 2n - 1.
        return self.basic_module(_added(interpolate(self.upsampling(x), size=skip.shape[2:]), skip))


class _Block(nn.Module):
    """Residual block of two 3³ convolutions, each after its norm, with squeeze-and-excitation at its end."""

    def __init__(self, in_channels: int, out_channels: int, checkpointing: bool) -> None:
        super().__init__()
        self.checkpointing = checkpointing
        self.conv1 = nn.Identity() if in_channels == out_channels else nn.Conv3d(in_channels, out_channels, 1)
        self.conv2 = _named(**_norm_conv(out_channels), nonlinearity=nn.ReLU(inplace=True))
        self.conv3 = _named(**_norm_conv(out_channels))
        self.se_module = _SqueezeExcitation(out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not torch.jit.is_scripting() and self.checkpointing and self.training and torch.is_grad_enabled():
            return checkpoint(self._compute, x, use_reentrant=False, preserve_rng_state=False)
        return self._compute(x)

    def _compute(self, x: torch.Tensor) -> torch.Tensor:
        residual = self.conv1(x)
        return self.se_module(_added(self.conv3(self.conv2(residual)), residual).relu_())


class _SqueezeExcitation(nn.Module):
    """Features times the larger of their channel's and their voxel's gate.

    The reference takes the larger of the two products, which is the same for features ≥ 0, and a tensor more.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.cSE = _ChannelGate(channels)
        self.sSE = _VoxelGate(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gates = torch.maximum(self.cSE(x), self.sSE(x))
        # Autograd would have to copy the gates first.
        return x * gates if torch.is_grad_enabled() or gates.dtype != x.dtype else gates.mul_(x)


class _ChannelGate(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, channels)
        self.fc2 = nn.Linear(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = torch.sigmoid(self.fc2(torch.relu(self.fc1(x.mean(dim=[2, 3, 4])))))
        return gate[:, :, None, None, None]


class _VoxelGate(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch.jit.is_scripting() or torch.jit.is_tracing() or x.device.type != "cpu":
            return torch.sigmoid(self.conv(x))  # what exports, OpenVINO and GPUs do better
        # As a product of matrices: with several threads a convolution to one channel is slow.
        bias = self.conv.bias
        assert bias is not None
        return torch.sigmoid(torch.matmul(self.conv.weight.flatten(1), x.flatten(2)).view_as(x[:, :1]) + bias)


def _added(fresh: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Their sum, in the memory of the first, as new memory costs a CPU more than the sum; autocast may mix types."""
    return fresh.add_(other) if fresh.dtype == other.dtype else fresh + other


def _norm_conv(channels: int) -> dict[str, nn.Module]:
    groups = _GROUPS if channels >= _GROUPS else 1
    return {
        "groupnorm": nn.GroupNorm(groups, channels),
        "conv": nn.Conv3d(channels, channels, 3, padding=1, bias=False),
    }


def _named(**modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(modules))


def _channels(targets: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """Channels of each target.

    Raises:
        ConfigError: when there is none, a name can't be used, or ``channels`` isn't a count.
    """
    if not targets:
        raise ConfigError("SurfaceUNet: targets is empty; define at least one, such as {'sheet': {'channels': 1}}")
    for name, definition in targets.items():
        # Names become part of keys; "/" separates the level of deep supervision; ModuleDict keeps its own attributes.
        if not name or "." in name or "/" in name or hasattr(nn.ModuleDict(), name):
            raise ConfigError(f"SurfaceUNet: {name!r} can't be the name of a target; rename it")
        channels = definition.get("channels")
        if not _is_count(channels):
            raise ConfigError(
                f"SurfaceUNet: target {name!r} needs channels, an integer of at least 1, got {channels!r}"
            )
    return {name: definition["channels"] for name, definition in targets.items()}


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
