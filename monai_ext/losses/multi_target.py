"""Weighted sum of the losses of several targets."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.functional import interpolate

from monai_ext.errors import ConfigError
from monai_ext.losses.bce_dice import BCEDiceLoss
from monai_ext.losses.cross_entropy_dice import CrossEntropyDiceLoss
from monai_ext.losses.masked_cosine import MaskedCosineLoss
from monai_ext.losses.masked_smooth_l1 import MaskedSmoothL1Loss
from monai_ext.targets import ACTIVATIONS, target_loss


class MultiTargetLoss(nn.Module):
    """Sum of weight · loss over the targets of a network such as `monai_ext.networks.SurfaceUNet`.

    Args:
        targets: definition of each target by name:

            - ``channels``: of the prediction.
            - ``activation``: "none" (default), "sigmoid" or "softmax"; applied at inference, here it selects the loss.
            - ``weight``: factor of its loss, ≥ 0; default 1.
            - ``loss``: a module called with (prediction, target), and with a third argument ``mask`` when voxels have
              to be left out; or the name of one of ``losses``. Default: `BCEDiceLoss` for one channel and for
              "sigmoid", `CrossEntropyDiceLoss` for "softmax", `MaskedCosineLoss` for three channels (vectors), else
              `MaskedSmoothL1Loss`.
            - ``loss_only_on_label``: True leaves out voxels where this target is 0 in every channel; a name leaves out
              voxels where that tensor of the target dict is 0, such as the sheet for its normals.
        ignore_label: value of label maps that leaves a voxel out of every loss; label maps are the targets with
            "sigmoid", "softmax", or one of the first two losses. ``None`` leaves out none.
        losses: name → module, for definitions that name their loss.

    Shapes: prediction a dict of target → (B, channels, Z, Y, X); target a dict of the same shapes, but one channel of
    class numbers for "softmax"; it may have further keys. Predictions of deep supervision, ``"<target>/<level>"``, are
    compared with the target at their size (nearest neighbour), each level with half the factor of the one above; the
    factors of a target's levels sum up to 1. The loss is a scalar. A target without any voxel that counts is left out
    of the sum, as is such a level of its own; where that is every target, the loss is NaN, with a gradient of 0.

    Attributes:
        terms: weight · loss of each target in the last call, detached, for logging; NaN where no voxel counted.
        counted: bool scalar, whether any voxel counted in the last call.

    Raises:
        ConfigError: when a definition is wrong, or every weight 0.
        ValueError: in the call, when predictions or targets are missing or don't fit.

    Example::

        loss = MultiTargetLoss({"sheet": {"channels": 1}, "normals": {"channels": 3, "weight": 0.75}})
        value = loss(network(image), {"sheet": sheet, "normals": normals})
        loss.terms["normals"]
    """

    def __init__(
        self,
        targets: Mapping[str, Mapping[str, Any]],
        ignore_label: float | None = None,
        losses: Mapping[str, nn.Module] | None = None,
    ) -> None:
        super().__init__()
        if not targets:
            raise ConfigError("MultiTargetLoss: targets is empty; define at least one, as {'sheet': {'channels': 1}}")
        for name, definition in targets.items():
            _check(name, definition)
        self.ignore_label = ignore_label
        self.weights = {name: float(definition.get("weight", 1.0)) for name, definition in targets.items()}
        if not any(self.weights.values()):
            raise ConfigError("MultiTargetLoss: every target has weight 0, so that nothing could be learnt; raise one")
        self.masked_by = {name: _masked_by(name, definition) for name, definition in targets.items()}
        self.losses = nn.ModuleList(_loss_of(name, definition, losses or {}) for name, definition in targets.items())
        self.label_maps = [
            name
            for (name, definition), loss in zip(targets.items(), self.losses, strict=True)
            if definition.get("activation") in ("sigmoid", "softmax")
            or isinstance(loss, (BCEDiceLoss, CrossEntropyDiceLoss))
        ]
        for name, loss in zip(targets, self.losses, strict=True):
            takes_mask = "mask" in inspect.signature(loss.forward).parameters
            if not takes_mask and (ignore_label is not None or self.masked_by[name]):
                raise ConfigError(
                    f"MultiTargetLoss: the loss of target {name!r}, {type(loss).__name__}, takes no mask, which "
                    "ignore_label and loss_only_on_label need; leave these out, or give a loss that takes one"
                )
        self.terms: dict[str, torch.Tensor] = {}
        self.counted = torch.tensor(False)

    def forward(self, pred: Mapping[str, torch.Tensor], target: Mapping[str, torch.Tensor]) -> torch.Tensor:
        levels = self._levels(pred)
        needed = [*self.weights, *filter(None, self.masked_by.values())]
        if missing := [name for name in needed if name not in target]:
            raise ValueError(
                f"MultiTargetLoss: the batch lacks {missing[0]!r}; it has {', '.join(target) or 'nothing'}"
            )
        kept = self._kept(target)
        terms: dict[str, torch.Tensor] = {}
        counted: dict[str, torch.Tensor] = {}
        for name, loss in zip(self.weights, self.losses, strict=True):
            mask = kept
            if label := self.masked_by[name]:
                labelled = _any_channel(target[label] != 0)
                mask = labelled if kept is None else kept & labelled
            value, counted[name] = _over_levels(loss, levels[name], target[name], mask)
            terms[name] = self.weights[name] * value
        self.terms = {name: term.detach().masked_fill(~counted[name], math.nan) for name, term in terms.items()}
        self.counted = torch.stack([counted[name] for name, weight in self.weights.items() if weight]).any()
        return torch.stack(list(terms.values())).sum().masked_fill(~self.counted, math.nan)

    def _levels(self, pred: Mapping[str, torch.Tensor]) -> dict[str, dict[int, torch.Tensor]]:
        """Predictions of each target by level of deep supervision, 0 for the full size."""
        levels: dict[str, dict[int, torch.Tensor]] = {name: {} for name in self.weights}
        for key, logits in pred.items():
            name, _, level = key.partition("/")
            if name not in levels:
                raise ValueError(f"MultiTargetLoss: the network predicts {name!r}, which targets doesn't define")
            levels[name][int(level or 0)] = logits
        if missing := [name for name in levels if 0 not in levels[name]]:
            raise ValueError(f"MultiTargetLoss: the network doesn't predict {missing[0]!r}, which targets defines")
        return levels

    def _kept(self, target: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
        """Voxels without the ignored label; None for all."""
        if self.ignore_label is None or not self.label_maps:
            return None
        ignored = [_any_channel(target[name] == self.ignore_label) for name in self.label_maps]
        return ~torch.stack(ignored).any(dim=0)


def _over_levels(
    loss: nn.Module, levels: Mapping[int, torch.Tensor], target: torch.Tensor, mask: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weighted mean over the levels with any voxel that counts, 0 without; and whether there is one."""
    values, factors = [], []
    for level, logits in levels.items():
        arguments = [logits, _resized(target, logits) if level else target]
        if mask is not None:
            arguments.append(_resized(mask, logits) if level else mask)
        value, counts = loss(*arguments), _any_voxel(loss, *arguments[1:])
        # Only what doesn't count is taken out: any other NaN has to be seen.
        values.append(torch.where(counts, 0.5**level * value, 0.0))
        factors.append(0.5**level * counts)
    total = torch.stack(factors).sum()
    return torch.stack(values).sum() / total.masked_fill(total == 0, 1), total > 0


def _any_voxel(loss: nn.Module, target: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Whether the loss has a voxel to be computed from."""
    mask = torch.ones_like(target[:, :1], dtype=torch.bool) if mask is None else mask
    return (loss.counting(target, mask) if isinstance(loss, MaskedCosineLoss) else mask).any()


def _resized(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    # Nearest neighbour keeps labels and vectors what they are; interpolate takes no integers.
    return interpolate(values.float(), size=like.shape[2:]).to(values.dtype)


def _any_channel(found: torch.Tensor) -> torch.Tensor:
    return found.any(dim=1, keepdim=True)


def _loss_of(name: str, definition: Mapping[str, Any], losses: Mapping[str, nn.Module]) -> nn.Module:
    loss = target_loss(definition)
    if isinstance(loss, str):
        loss = _named_loss(name, loss, losses)
    if loss is not None:
        if not isinstance(loss, nn.Module):
            raise ConfigError(
                f"MultiTargetLoss: target {name!r}: loss must be a loss module, such as "
                f"monai_ext.losses.BCEDiceLoss, or the name of one of losses, got {loss!r}"
            )
        return loss
    activation = definition.get("activation", "none")
    if activation == "softmax":
        return CrossEntropyDiceLoss()
    if activation == "sigmoid" or definition["channels"] == 1:
        return BCEDiceLoss()
    return MaskedCosineLoss() if definition["channels"] == 3 else MaskedSmoothL1Loss()


def _named_loss(target: str, loss: str, losses: Mapping[str, nn.Module]) -> nn.Module:
    if loss not in losses:
        near = difflib.get_close_matches(loss, losses, 1, 0.4)
        known = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(losses) or 'none'}"
        raise ConfigError(f"MultiTargetLoss: target {target!r}: no loss {loss!r} in losses; {known}")
    return losses[loss]


def _masked_by(name: str, definition: Mapping[str, Any]) -> str | None:
    only = definition.get("loss_only_on_label", False)
    return only if isinstance(only, str) else name if only else None


def _check(name: str, definition: Mapping[str, Any]) -> None:
    who = f"MultiTargetLoss: target {name!r}"
    channels, activation = definition.get("channels"), definition.get("activation", "none")
    weight = definition.get("weight", 1.0)
    if not isinstance(channels, int) or channels < 1:
        raise ConfigError(f"{who} needs channels, an integer of at least 1, got {channels!r}")
    if activation not in ACTIVATIONS:
        raise ConfigError(f"{who}: activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    if activation == "softmax" and channels == 1:
        raise ConfigError(f"{who}: softmax over one channel is always 1; take 'sigmoid', or two channels")
    if isinstance(weight, str) or not (math.isfinite(weight) and weight >= 0):
        raise ConfigError(f"{who}: weight must be a number of at least 0, got {weight!r}")
    if not isinstance(definition.get("loss_only_on_label", False), (bool, str)):
        raise ConfigError(f"{who}: loss_only_on_label must be true, false or the name of a label")
