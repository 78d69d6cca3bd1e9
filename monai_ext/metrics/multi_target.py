"""Metrics of multi-task dense prediction: Dice of labels, angles of vectors, errors of values, pooled over voxels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from monai_ext.errors import ConfigError
from monai_ext.metrics.segmentation import number_or_none
from monai_ext.targets import Definition, target_kind

# Name of a target's metric, by what it holds.
METRIC_OF = {"labels": "dice", "classes": "dice", "vectors": "angle", "values": "mae"}


@dataclass
class PatchRecord:
    """Contribution of one patch to the metrics.

    Args:
        number: index in the dataset.
        name: of the patch.
        losses: ``loss`` and its terms, NaN where no voxel counts; empty without a loss.
        sums: target → one list per channel, of numbers that add up over patches: overlap, predicted and labelled voxels
            for labels and classes; sum of angles in degrees or of absolute errors, and voxels, for the others.
    """

    number: int
    name: str
    losses: dict[str, float]
    sums: dict[str, list[list[float]]]

    @property
    def identity(self) -> tuple[Any, ...]:
        return (self.name,)

    @property
    def is_finite(self) -> bool:
        """Whether the network's output was finite; else sums are NaN."""
        return all(math.isfinite(number) for sums in self.sums.values() for each in sums for number in each)


@dataclass
class MultiTargetResult:
    """All patches of a validation, and their metrics.

    Args:
        targets: definition of each target by name; see `monai_ext.targets.target_kind`.
        patches: records of all patches.

    Attributes:
        metrics: ``loss`` and its terms, ``<target>_dice``, ``<target>_angle`` (degrees), ``<target>_mae``;
            ``None`` where nothing could be compared.
        skipped: a sentence for each metric that could not be computed.
    """

    targets: Mapping[str, Definition]
    patches: Sequence[PatchRecord]
    metrics: dict[str, float | None] = field(init=False)
    skipped: list[str] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        losses = dict.fromkeys(name for patch in self.patches for name in patch.losses)
        self.metrics = {name: self._loss(name) for name in losses}
        self.skipped += [f"{name}: no voxel counts in any patch" for name in losses if self.metrics[name] is None]
        for target in self.targets:
            name = self.metric_name(target)
            self.metrics[name] = self._score(target, self.patches)
            if self.metrics[name] is None:
                self.skipped.append(f"{name}: no voxel of {target!r} could be compared")
        broken = [patch.name for patch in self.patches if not patch.is_finite]
        if broken:
            self.skipped.append(f"the network's output isn't finite on {len(broken)} patches, such as {broken[0]}")

    def metric_name(self, target: str) -> str:
        return f"{target}_{METRIC_OF[target_kind(self.targets[target])]}"

    def rows(self) -> list[dict[str, Any]]:
        """One row per patch: its case, losses, and metrics."""
        return [
            {
                "case": patch.name,
                **{name: number_or_none(value) for name, value in patch.losses.items()},
                **{self.metric_name(target): self._score(target, [patch]) for target in self.targets},
            }
            for patch in self.patches
        ]

    def per_target(self) -> dict[str, dict[str, float | None]]:
        """Metric and loss of each target."""
        return {
            target: {
                METRIC_OF[target_kind(definition)]: self.metrics[self.metric_name(target)],
                "loss": self.metrics.get(f"loss_{target}"),
            }
            for target, definition in self.targets.items()
        }

    def _loss(self, name: str) -> float | None:
        """Mean over the patches in which a voxel counts; NaN where the network's output isn't finite."""
        found = ((patch.losses[name], patch.is_finite) for patch in self.patches)
        counted = [value for value, is_finite in found if math.isfinite(value) or not is_finite]
        return sum(counted) / len(counted) if counted else None

    def _score(self, target: str, patches: Sequence[PatchRecord]) -> float | None:
        """Over all voxels of the patches: the mean of the channels that have any."""
        channels = [[sum(column) for column in zip(*parts, strict=True)] for parts in self._by_channel(target, patches)]
        if target_kind(self.targets[target]) in ("labels", "classes"):
            # A channel without labels and predictions is not informative.
            scores = [2 * overlap / (predicted + true) for overlap, predicted, true in channels if predicted + true]
        else:
            scores = [total / voxels for total, voxels in channels if voxels]
        return sum(scores) / len(scores) if scores else None

    def _by_channel(self, target: str, patches: Sequence[PatchRecord]) -> list[tuple[list[float], ...]]:
        return list(zip(*(patch.sums[target] for patch in patches), strict=True))


def compare(
    prediction: torch.Tensor, label: torch.Tensor, definition: Definition, ignored: torch.Tensor | None = None
) -> list[list[float]]:
    """`PatchRecord.sums` of one target in one patch.

    Args:
        prediction: logits, vectors of any length, or values, (C, spatial axes).
        label: the truth, of the same shape; (1, spatial axes) of class numbers for classes. Zero vectors don't count.
        definition: of the target.
        ignored: bool (1, spatial axes), voxels that don't count; None for none.
    """
    kind = target_kind(definition)
    counts = torch.ones_like(label[:1], dtype=torch.bool) if ignored is None else ~ignored
    if kind in ("labels", "classes"):
        if kind == "labels":
            predicted, true = prediction > 0, label > 0.5
        else:
            numbers = torch.arange(1, len(prediction), device=label.device).view(-1, *[1] * (label.ndim - 1))
            predicted, true = prediction.argmax(dim=0) == numbers, label.round() == numbers
        kept = [(each & counts).flatten(1).sum(dim=1) for each in (predicted & true, predicted, true)]
        return torch.stack(kept, dim=1).double().tolist()
    if kind == "vectors":
        counts = counts & (label != 0).any(dim=0, keepdim=True)
        cosine = torch.nn.functional.cosine_similarity(prediction.double(), label.double(), dim=0, eps=1e-12)
        errors = torch.rad2deg(torch.acos(cosine.clamp(-1, 1)))[None]
    else:
        errors = (prediction.double() - label.double()).abs()
    sums = torch.where(counts, errors, 0.0).flatten(1).sum(dim=1)
    voxels = float(counts.sum())
    return [[total, voxels] for total in sums.tolist()]


def ignored_voxels(
    labels: Mapping[str, torch.Tensor], targets: Mapping[str, Definition], ignore_label: float | None
) -> torch.Tensor | None:
    """Voxels (1, spatial axes) that hold the ignored label in any label map; ``None`` without such a label.

    Args:
        labels: (channels, spatial axes) by target.
        targets: definitions by name.
        ignore_label: stored value of these voxels.

    Raises:
        ConfigError: for an ignored label that is NaN or infinite.
    """
    if ignore_label is None:
        return None
    if not math.isfinite(ignore_label):
        raise ConfigError(f"ignore_label must be a number, got {ignore_label!r}")
    maps = [labels[name] for name in targets if target_kind(targets[name]) in ("labels", "classes")]
    found = [(label == ignore_label).any(dim=0, keepdim=True) for label in maps]
    return torch.stack(found).any(dim=0) if found else None
