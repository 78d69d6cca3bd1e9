"""Validation metrics of a network with several targets, over all patches of all processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from ignite.engine import Engine

from monai_ext.errors import ConfigError
from monai_ext.metrics.cases import CaseMetric
from monai_ext.metrics.multi_target import MultiTargetResult, PatchRecord, compare, ignored_voxels
from monai_ext.targets import Definition


class MultiTargetPatches(CaseMetric):
    """Compare predictions and labels of every patch, then say once what all voxels together give.

    Voxels are pooled: the mean of the patches' own Dice would weigh a patch with ten labelled voxels like a full one.
    The loss is the mean over the patches, each by itself, so that neither the batch size nor the number of processes
    matters. Use it as the ``key_val_metric`` of a `monai.engines.SupervisedEvaluator` whose output holds logits in
    ``pred`` and the truth in ``label``, both dicts of target → (C, Z, Y, X).

    At the end of the epoch ``engine.state.metrics`` has the scalars of `MultiTargetResult`, NaN where not computable,
    and ``engine.state.metric_details["targets"]`` the whole result.

    Args:
        targets: definition of each target by name; see `monai_ext.targets.target_kind`.
        loss: such as `monai_ext.losses.MultiTargetLoss`; its ``terms`` are told as ``loss_<target>``.
        key: the scalar that goes under the name this metric is attached with.
        ignore_label: value of label maps that leaves a voxel out of every metric.
    """

    def __init__(
        self,
        targets: Mapping[str, Definition],
        loss: torch.nn.Module | None = None,
        key: str = "loss",
        ignore_label: float | None = None,
    ) -> None:
        if not targets:
            raise ConfigError("MultiTargetPatches: targets is empty")
        self.targets = dict(targets)
        self.loss = loss
        self.key = key
        self.ignore_label = ignore_label
        known = [*MultiTargetResult(self.targets, []).metrics, *(["loss"] if loss is not None else [])]
        if key not in known:
            raise ConfigError(f"MultiTargetPatches: key must be one of {known}, got {key!r}")
        super().__init__()

    def record(self, item: Mapping[str, Any]) -> PatchRecord:
        """Losses and sums of a patch, computed where its tensors are."""
        prediction, label = item["pred"], item["label"]
        ignored = ignored_voxels(label, self.targets, self.ignore_label)
        return PatchRecord(
            int(item["index"]),
            str(item["case"]),
            self._losses(prediction, label),
            {name: compare(prediction[name], label[name], self.targets[name], ignored) for name in self.targets},
        )

    def compute(self) -> MultiTargetResult:
        """The result over all processes; a collective call."""
        return MultiTargetResult(self.targets, self.collected())

    def completed(self, engine: Engine, name: str) -> None:
        result = self.compute()
        engine.state.metrics[name] = self.publish(engine, result.metrics, {"targets": result})[self.key]

    def _losses(self, prediction: Mapping[str, torch.Tensor], label: Mapping[str, torch.Tensor]) -> dict[str, float]:
        if self.loss is None:
            return {}
        alone = ({name: tensor[None].float() for name, tensor in tensors.items()} for tensors in (prediction, label))
        value = float(self.loss(*alone))
        terms = getattr(self.loss, "terms", {})
        return {"loss": value} | {f"loss_{name}": float(term) for name, term in terms.items()}
