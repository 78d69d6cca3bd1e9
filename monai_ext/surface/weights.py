"""The network in a file of weights: targets and feature maps, also where nothing but its tensors says them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai_ext.errors import ConfigError
from monai_ext.networks import network_settings
from monai_ext.networks.checkpoints import read_checkpoint, state_dict_of
from monai_ext.targets import ACTIVATIONS, SCORES, target_kind


def saved_network(checkpoint: str | Path, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a `monai_ext.networks.SurfaceUNet` was trained with, for configs that take them from there.

    Files of the reference hold weights only: these give ``targets`` (one channel is a label, three are a vector),
    ``f_maps`` and ``deep_supervision``.

    Args:
        checkpoint: path of a ``.pt``, ours or the reference's, or of an exported ``.ts``.
        defaults: name → value where the file doesn't exist (a bundle without weights can still be inspected) or
            doesn't say. Only these settings are returned.

    Raises:
        WeightsError: when the file can't be read.
    """
    found = {} if not Path(checkpoint).is_file() else settings_of(checkpoint)
    return {name: found.get(name, default) for name, default in defaults.items()}


def settings_of(checkpoint: str | Path) -> dict[str, Any]:
    """All settings that a file has or its weights show.

    Args:
        checkpoint: see `saved_network`.

    Raises:
        WeightsError: when the file can't be read.
    """
    saved = network_settings(checkpoint) or {}
    if all(saved.get(name) for name in ("targets", "f_maps")):
        return saved
    shapes = {key: value.shape for key, value in state_dict_of(read_checkpoint(checkpoint), checkpoint).items()}
    heads = _matched(r"task_final_convs\.([^.]+)\.weight", shapes)
    maps = _matched(r"encoders\.(\d+)\.basic_module\.conv2\.conv\.weight", shapes)
    if not heads or not maps:
        return saved
    shown = {
        "targets": {name: {"channels": shape[0]} for name, shape in heads.items()},
        "f_maps": [maps[level][0] for level in sorted(maps, key=int)],
        "deep_supervision": any(key.startswith("task_deep_convs.") for key in shapes),
    }
    return {**shown, **saved}


def predicted_targets(
    targets: Mapping[str, Mapping[str, Any]], activations: Mapping[str, str] | None = None
) -> dict[str, dict[str, Any]]:
    """Targets with the activation that a prediction applies, whatever their training named.

    Args:
        targets: definition of each target by name.
        activations: activation by name; by default sigmoid for labels, softmax for classes, none for all others.

    Raises:
        ConfigError: for an activation of no target, or an unknown one.
    """
    chosen = dict(activations or {})
    for name, activation in chosen.items():
        if name not in targets or activation not in ACTIVATIONS:
            raise ConfigError(
                f"activations: {name!r} can't be {activation!r}; there are the targets {', '.join(targets)} and the "
                f"activations {', '.join(ACTIVATIONS)}"
            )
    predicted = {}
    for name, definition in targets.items():
        kind = target_kind(definition)
        activation = chosen.get(name, SCORES.get(kind, "none"))
        target_kind({**definition, "activation": activation})  # refuses what can't be
        predicted[name] = {**definition, "activation": activation, "kind": kind}
    return predicted


def _matched(pattern: str, shapes: Mapping[str, Any]) -> dict[str, Any]:
    return {match[1]: shape for key, shape in shapes.items() if (match := re.fullmatch(pattern, key))}
