"""From a batch of windows to logits of each target: normalisation, flips, network; and their settings."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, cast

import torch
from torch import nn

from monai_ext.errors import ConfigError
from monai_ext.inferers.streaming.targets import StoredTarget
from monai_ext.transforms import FlipVectorField
from monai_ext.transforms.vector_field import AXES

Normalize = Callable[[torch.Tensor], torch.Tensor]


class WindowPredictor:
    """A network as the sliding window calls it.

    Args:
        network: in evaluation mode, on ``device``; windows (B, 1, Z, Y, X) to a tensor, or a dict of target → tensor.
        targets: the targets to predict. A single tensor is the only target.
        normalize: normalises a batch (B, 1, Z, Y, X) float32, window by window.
        flips: axes of "zyx"; the logits are the mean over all combinations of flips along them, vectors flipped back.
    """

    def __init__(
        self,
        network: nn.Module,
        targets: Mapping[str, StoredTarget],
        device: torch.device,
        normalize: Normalize | None = None,
        flips: Sequence[str] = (),
    ) -> None:
        self.network = network
        self.targets = targets
        self.device = device
        self.normalize = normalize
        self.flips = _flips(flips)

    def __call__(self, windows: torch.Tensor) -> dict[str, torch.Tensor]:
        """Logits (B, channels, Z, Y, X) of each target, float32, which the caller may change.

        Raises:
            ConfigError: when the network's output doesn't fit the targets.
        """
        sums: dict[str, torch.Tensor] = {}
        with torch.inference_mode():
            windows = windows.to(self.device, non_blocking=True)
            if self.normalize is not None:
                windows = self.normalize(windows)
            for axes in self.flips:
                flipped = torch.flip(windows, [2 + AXES.index(axis) for axis in axes]) if axes else windows
                for name, logits in self._checked(self.network(flipped), windows).items():
                    back = _flipped_back(logits, axes, self.targets[name].kind == "vectors")
                    # A copy: a network may return a stored tensor, or its own input.
                    sums[name] = sums[name].add_(back) if name in sums else back.to(torch.float32, copy=True)
            return {name: total.div_(len(self.flips)) for name, total in sums.items()}

    def _checked(self, output: Any, windows: torch.Tensor) -> dict[str, torch.Tensor]:
        several = isinstance(output, Mapping)
        found: Mapping[str, torch.Tensor] = output if several else dict.fromkeys(self.targets, output)
        if not several and len(self.targets) > 1:
            raise ConfigError(f"the network gives one tensor, not the targets {', '.join(self.targets)}; define one")
        for name, target in self.targets.items():
            if name not in found:
                raise ConfigError(f"the network doesn't predict {name!r}; it predicts {', '.join(found) or 'nothing'}")
            expected = (len(windows), target.channels, *windows.shape[2:])
            if tuple(found[name].shape) != expected:
                raise ConfigError(
                    f"target {name!r}: the network gives the shape {tuple(found[name].shape)} for windows "
                    f"{tuple(windows.shape)}, expected {expected}; channels or the network is wrong"
                )
        return {name: found[name] for name in self.targets}


def predictor_settings(
    network: nn.Module,
    identity: Mapping[str, Any],
    engine: str,
    precision: str,
    normalize: Normalize | None,
    test_time_flips: Sequence[str],
) -> dict[str, Any]:
    """The settings that change the predicted numbers, as plain values; arguments: see `ZarrSlidingWindow`."""
    return {
        "network": {"type": type(network).__name__, "weights": _digest(network), **identity},
        "engine": engine,
        "precision": precision,
        "normalize": _named(normalize),
        "test_time_flips": sorted(test_time_flips),
    }


def device_settings(device: torch.device, threads_of_a_batch: int, tf32: bool) -> dict[str, Any]:
    """Further settings that change the bytes, except CPU and GPU models, which may change the last bits."""
    of_kind: dict[str, dict[str, Any]] = {"cpu": {"threads": threads_of_a_batch}, "cuda": {"tf32": tf32}}
    own = of_kind.get(device.type, {})
    return {"device": device.type, "torch": torch.__version__, **own}


def _digest(network: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        if isinstance(tensor, torch.Tensor):
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
            digest.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
    return digest.hexdigest()


def _named(normalize: Normalize | None) -> str | None:
    if normalize is None or hasattr(normalize, "__qualname__"):
        return getattr(normalize, "__qualname__", None)
    return f"{type(normalize).__qualname__} {sorted(vars(normalize).items())}"


def _flips(axes: Sequence[str]) -> list[tuple[str, ...]]:
    unknown = [axis for axis in axes if axis not in AXES]
    if unknown:
        raise ConfigError(f"test_time_flips must hold axes of {list(AXES)}, got {unknown[0]!r}")
    chosen = [axis for axis in AXES if axis in axes]
    return [flipped for count in range(len(chosen) + 1) for flipped in combinations(chosen, count)]


def _flipped_back(logits: torch.Tensor, axes: Sequence[str], vectors: bool) -> torch.Tensor:
    if not axes:
        return logits
    if not vectors:
        return torch.flip(logits, [2 + AXES.index(axis) for axis in axes])
    return torch.stack(list(_fields_flipped_back(logits, axes)))


def _fields_flipped_back(fields: torch.Tensor, axes: Sequence[str]) -> Iterator[torch.Tensor]:
    for field in fields:
        for axis in axes:
            field = cast(torch.Tensor, FlipVectorField(axis)(field))
        yield field
