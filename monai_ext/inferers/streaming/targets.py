"""Storage of a target's logits: activation, type of the values, axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from monai_ext.data.normals import stored_normals
from monai_ext.errors import ConfigError
from monai_ext.targets import SCORES, target_kind

_TYPES = {"scores": ("uint8", "uint16", "float32"), "vectors": ("uint16", "uint8", "float32"), "values": ("float32",)}


@dataclass(frozen=True)
class StoredTarget:
    """A target as it is stored.

    Attributes:
        kind: "scores" (after sigmoid or softmax; integers hold 0 to 1 as 0 to 255, or 65535, rounded), "vectors" (three
            channels x, y, z of unit length; integers as `monai_ext.data.encode_normals` stores them) or "values" (as
            the network gives them).
        dtype: "uint8", "uint16" or "float32".
    """

    name: str
    channels: int
    activation: str
    kind: str
    dtype: str

    @classmethod
    def of(cls, name: str, definition: Mapping[str, Any], dtype: str | None = None) -> StoredTarget:
        """From its definition, ``{"channels": 1, "activation": "sigmoid"}``.

        Args:
            name: of the target.
            definition: with the activation to apply; labels and classes that are stored as integers are scores in any
                case.
            dtype: type of the stored values; default by the kind.

        Raises:
            ConfigError: when the definition is wrong, or the type doesn't fit the kind of the target.
        """
        channels, activation = definition.get("channels"), definition.get("activation", "none")
        if not isinstance(channels, int) or channels < 1:
            raise ConfigError(f"target {name!r} needs channels, an integer of at least 1, got {channels!r}")
        of_training = target_kind(definition)
        if activation == "none" and dtype in ("uint8", "uint16"):
            activation = SCORES.get(of_training, "none")
        kind = "scores" if activation != "none" else "vectors" if of_training == "vectors" else "values"
        if dtype is None:
            dtype = _TYPES[kind][0]
        if dtype not in _TYPES[kind]:
            raise ConfigError(f"target {name!r} holds {kind}, stored as {' or '.join(_TYPES[kind])}, not as {dtype!r}")
        return cls(name, channels, activation, kind, dtype)

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the stored array's axes: a single score or value has none for channels."""
        return ("z", "y", "x") if self.channels == 1 else ("c", "z", "y", "x")

    def activate(self, logits: torch.Tensor) -> torch.Tensor:
        """Scores, unit vectors or values of logits (channels, Z, Y, X), float32."""
        if self.activation == "sigmoid":
            return torch.sigmoid(logits)
        if self.activation == "softmax":
            return torch.softmax(logits, dim=0)
        return unit_vectors(logits) if self.kind == "vectors" else logits

    def encode(self, values: torch.Tensor) -> torch.Tensor:
        """Stored form of activated values (channels, Z, Y, X), on their device."""
        if self.dtype != "float32":
            if self.kind == "vectors":
                return stored_normals(values, self.dtype, channel_axis=0)
            values = (values * np.iinfo(self.dtype).max).round_().to(getattr(torch, self.dtype))
        return values[0] if self.channels == 1 else values


def unit_vectors(vectors: torch.Tensor) -> torch.Tensor:
    """Vectors on axis 0, at length 1; zero vectors stay."""
    length = (vectors * vectors).sum(dim=0, keepdim=True).sqrt()
    return vectors / torch.where(length > 0, length, 1.0)


def stored_targets(
    targets: Mapping[str, Mapping[str, Any]],
    output_targets: Sequence[str] | None = None,
    dtypes: Mapping[str, str] | None = None,
) -> dict[str, StoredTarget]:
    """The chosen targets, in the order of their definitions; all by default.

    Raises:
        ConfigError: when a name isn't defined, or nothing is chosen.
    """
    chosen = list(targets) if output_targets is None else list(output_targets)
    for name in [*chosen, *(dtypes or {})]:
        if name not in targets:
            raise ConfigError(f"there is no target {name!r}; the network has {', '.join(targets) or 'none'}")
    if not chosen:
        raise ConfigError("output_targets is empty; name at least one target")
    return {
        name: StoredTarget.of(name, definition, (dtypes or {}).get(name))
        for name, definition in targets.items()
        if name in chosen
    }
