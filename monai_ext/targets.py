"""The kind of each target of a multi-task network, read from its definition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from monai_ext.errors import ConfigError

Definition = Mapping[str, Any]
Kind = Literal["labels", "classes", "vectors", "values"]

ACTIVATIONS = ("none", "sigmoid", "softmax")


def target_kind(definition: Definition) -> Kind:
    """The kind of a target: "labels" (each channel 0 or 1), "classes" (class numbers), "vectors" or "values".

    Args:
        definition: ``activation`` ("none", "sigmoid" or "softmax") and ``channels`` decide: sigmoid makes labels,
            softmax classes; without activation one channel is a label (unless ``loss`` implies another kind), three are
            the x, y, z components of a vector (unless ``vector`` is false), others are values to be regressed.

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
    """Names of the targets that are vector fields, which rotate with the volume.

    Args:
        targets: definition of each target by name, see `target_kind`.
    """
    return [name for name, definition in targets.items() if target_kind(definition) == "vectors"]


def network_targets(targets: Mapping[str, Definition]) -> dict[str, dict[str, Any]]:
    """The settings of the targets that change a network's function: a checkpoint keeps them, not weights and losses.

    Args:
        targets: definition of each target by name, see `target_kind`.
    """
    return {
        name: {"channels": definition.get("channels"), "activation": definition.get("activation", "none")}
        for name, definition in targets.items()
    }
