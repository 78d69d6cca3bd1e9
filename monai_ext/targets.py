"""What a target of a network with several targets is: read from its definition, in one place for all who ask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from monai_ext.errors import ConfigError

Definition = Mapping[str, Any]
Kind = Literal["labels", "classes", "vectors", "values"]

ACTIVATIONS = ("none", "sigmoid", "softmax")


def target_kind(definition: Definition) -> Kind:
    """What a target holds: "labels" (each channel 0 or 1), "classes" (class numbers), "vectors" or "values".

    Args:
        definition: ``activation`` ("none", "sigmoid" or "softmax") and ``channels`` decide: sigmoid makes labels,
            softmax classes; without activation one channel is a label (unless ``loss`` says what else), three are the
            x, y, z components of a vector (unless ``vector`` is false), others are values to be regressed.

    Raises:
        ConfigError: for an unknown activation.
    """
    activation, channels = definition.get("activation", "none"), definition.get("channels")
    if activation not in ACTIVATIONS:
        raise ConfigError(f"targets: activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    if activation == "softmax":
        return "classes"
    if activation == "sigmoid" or (channels == 1 and definition.get("loss") is None):
        return "labels"
    return "vectors" if channels == 3 and definition.get("vector", True) else "values"


def vector_targets(targets: Mapping[str, Definition]) -> list[str]:
    """Names of the targets that are vector fields, which turn with the volume."""
    return [name for name, definition in targets.items() if target_kind(definition) == "vectors"]


def network_targets(targets: Mapping[str, Definition]) -> dict[str, dict[str, Any]]:
    """What of the definitions a network's function depends on: a checkpoint keeps it, weights and losses it needn't."""
    return {
        name: {"channels": definition.get("channels"), "activation": definition.get("activation", "none")}
        for name, definition in targets.items()
    }
