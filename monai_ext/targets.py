"""The kind of each target of a multi-task network, read from its definition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

from monai_ext.errors import ConfigError

Definition = Mapping[str, Any]
Kind = Literal["labels", "classes", "vectors", "values"]

ACTIVATIONS = ("none", "sigmoid", "softmax")
# Activation that makes scores of what was trained on logits.
SCORES = {"labels": "sigmoid", "classes": "softmax"}
_KINDS = ("labels", "classes", "vectors", "values")

# Losses of the published pipeline that are here under another name, their arguments, and the nearest to others.
_LOSS_OF_ORIGINAL = {"BCEDiceLoss": "bce_dice", "MaskedCosineLoss": "masked_cosine"}
_ITS_ARGUMENTS = {"alpha": 0.5, "beta": 0.5}
_NEAREST = {
    **dict.fromkeys(("BCELoss", "BCEWithLogitsLoss", "BCEWithLogitsLossLabelSmoothing", "BCEDiceLoss"), "bce_dice"),
    "CrossEntropyLoss": "cross_entropy_dice",
    "MSELoss": "smooth_l1",
}


def target_loss(definition: Definition) -> Any:
    """Name or module of a target's loss; None for that of its kind.

    Args:
        definition: ``loss``; or ``loss_fn``, as the original writes it.

    Raises:
        ConfigError: for a loss of the original that isn't here under another name, or with other arguments.
    """
    original = definition.get("loss_fn")
    if original is None or definition.get("loss") is not None:
        return definition.get("loss")
    if original not in _LOSS_OF_ORIGINAL or definition.get("loss_kwargs") not in (None, {}, _ITS_ARGUMENTS):
        nearest = _NEAREST.get(original, " or ".join(dict.fromkeys([*_LOSS_OF_ORIGINAL.values(), *_NEAREST.values()])))
        raise ConfigError(
            f"targets: loss_fn {original!r}{' with these loss_kwargs' if original in _LOSS_OF_ORIGINAL else ''} is one "
            f"of the original's losses that isn't here; give loss instead, such as {nearest}"
        )
    return _LOSS_OF_ORIGINAL[original]


def target_kind(definition: Definition) -> Kind:
    """The kind of a target: "labels" (each channel 0 or 1), "classes" (class numbers), "vectors" or "values".

    Args:
        definition: ``activation`` ("none", "sigmoid" or "softmax") and ``channels`` decide: sigmoid makes labels,
            softmax classes; without activation the loss does, where it is one of labels or classes. Without that, too,
            one channel is a label (unless it has another loss), three are the x, y, z components of a vector (unless
            ``vector`` is false), others are values to be regressed. ``kind`` says it outright.

    Raises:
        ConfigError: for an unknown activation, or softmax over one channel.
    """
    activation, channels = definition.get("activation", "none"), definition.get("channels")
    if activation not in ACTIVATIONS:
        raise ConfigError(f"targets: activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    if activation == "softmax" and channels == 1:
        raise ConfigError("targets: softmax over one channel is 1 everywhere; give more channels, or take sigmoid")
    if activation != "none":
        return "classes" if activation == "softmax" else "labels"
    if definition.get("kind") in _KINDS:
        return cast(Kind, definition["kind"])
    loss = target_loss(definition)
    words = (loss if isinstance(loss, str) else type(loss).__name__).lower().replace("_", "")
    if words.startswith("crossentropy"):
        return "classes"
    if words.startswith("bce") or (channels == 1 and loss is None):
        return "labels"
    return "vectors" if channels == 3 and definition.get("vector", True) else "values"


def vector_targets(targets: Mapping[str, Definition]) -> list[str]:
    """Names of the targets that are vector fields, which rotate with the volume.

    Args:
        targets: definition of each target by name, see `target_kind`.
    """
    return [name for name, definition in targets.items() if target_kind(definition) == "vectors"]


def label_targets(targets: Mapping[str, Definition]) -> list[str]:
    """Names of the targets that are label maps, where a value can mean that a voxel is ignored.

    Args:
        targets: definition of each target by name, see `target_kind`.
    """
    return [name for name, definition in targets.items() if target_kind(definition) in ("labels", "classes")]


def network_targets(targets: Mapping[str, Definition]) -> dict[str, dict[str, Any]]:
    """The settings of the targets that change a network's function: a checkpoint keeps them, not weights and losses.

    Args:
        targets: definition of each target by name, see `target_kind`.
    """
    kept: dict[str, dict[str, Any]] = {}
    for name, definition in targets.items():
        plain = {"channels": definition.get("channels"), "activation": definition.get("activation", "none")}
        kind = target_kind(definition)
        kept[name] = plain if target_kind(plain) == kind else {**plain, "kind": kind}
    return kept
