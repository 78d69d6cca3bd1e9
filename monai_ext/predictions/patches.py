"""Predictions of a network with several targets, as sums and scores: patches are too large to keep."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from monai_ext.errors import ConfigError
from monai_ext.io import finite
from monai_ext.metrics.intervals import Interval, interval_entries
from monai_ext.metrics.multi_target import MultiTargetResult, PatchRecord, compare, ignored_voxels
from monai_ext.pages.document import Block, Section
from monai_ext.predictions import patches_sections
from monai_ext.predictions.kind import NO_BEST, Predictions, Validation
from monai_ext.predictions.reading import filled_rows
from monai_ext.predictions.writing import Files
from monai_ext.targets import Definition, target_kind

FILE = "val_patches.csv"
_TYPES = {"labels": "segmentation", "classes": "segmentation", "vectors": "vectors", "values": "magnitude"}


class Patches(Predictions):
    """Predicted targets of patches, compared with the true ones; see `Predictions`.

    Voxels are pooled: the mean Dice of patches would give a patch with ten labelled voxels the weight of a full one.
    The loss is the mean over the patches, each by itself. The evaluator's output has logits in ``pred`` and the truth
    in ``label``, both dicts of target → (C, Z, Y, X).

    There are no confidence intervals: patches overlap and lie in a few regions, so that a bootstrap over them would be
    too optimistic.

    Args:
        targets: definition of each target by name; see `monai_ext.targets.target_kind`.
        loss: such as `monai_ext.losses.MultiTargetLoss`; its ``terms`` are reported as ``loss_<target>``.
        key: see `Predictions`.
        ignore_label: value of label maps that leaves a voxel out of every metric; None for none.

    Raises:
        ConfigError: without targets; for another ``key``.
    """

    task = "multi_task"
    needed = ("pred", "label", "case", "index")
    by_class = False
    previews = True

    def __init__(
        self,
        targets: Mapping[str, Definition],
        loss: torch.nn.Module | None = None,
        key: str = "loss",
        ignore_label: float | None = None,
    ) -> None:
        if not targets:
            raise ConfigError("Patches: targets is empty")
        self.targets = dict(targets)
        self.ignore_label = ignore_label
        super().__init__(list(MultiTargetResult(self.targets, []).metrics), key, loss, cases="patches")

    def record(self, item: Mapping[str, Any]) -> PatchRecord:
        """Losses and sums of a patch, computed on the device of its tensors; NaN where the prediction isn't finite.

        Args:
            item: with ``pred``, ``label``, ``case`` and ``index``.
        """
        prediction, label = item["pred"], item["label"]
        ignored = ignored_voxels(label, self.targets, self.ignore_label)
        sums = {name: compare(prediction[name], label[name], self.targets[name], ignored) for name in self.targets}
        for name, found in sums.items():
            if not torch.isfinite(prediction[name]).all():
                # comparisons with NaN are false, which would look like a prediction of nothing
                sums[name] = [[math.nan] * len(each) for each in found]
        return PatchRecord(int(item["index"]), str(item["case"]), self._losses(prediction, label), sums)

    def judged(self, records: Sequence[PatchRecord]) -> Validation:
        return Validation(MultiTargetResult(self.targets, records))

    def _losses(self, prediction: Mapping[str, torch.Tensor], label: Mapping[str, torch.Tensor]) -> dict[str, float]:
        if self.loss is None:
            return {}
        alone = ({name: tensor[None].float() for name, tensor in tensors.items()} for tensors in (prediction, label))
        value = float(self.loss(*alone))
        terms = getattr(self.loss, "terms", {})
        return {"loss": value} | {f"loss_{name}": float(term) for name, term in terms.items()}

    # -- the best epoch ------------------------------------------------------------------------------------------

    def nonfinite(self) -> list[str]:
        return [patch.name for patch in self.best.patches if not patch.is_finite]

    def best_files(self) -> Files:
        """``val_patches.csv``: one row per patch with its losses and metrics."""
        return Files(tables={FILE: self.best.rows()})

    def metrics(self, intervals: bool = False) -> dict[str, Any]:
        """The part of ``metrics.json`` about the best epoch, with ``per_target``.

        Args:
            intervals: say why there are none.
        """
        found: dict[str, Any] = {"task": self.task, "per_class": {}, "confusion_matrix": [], "intervals": {}}
        found["cases"] = self.cases
        found["interval_methods"] = {}
        if self.best is None:
            return {**found, "metrics": {}, "per_target": {}, "skipped": [NO_BEST]}
        losses = {"val_" + name: value for name, value in self.best.metrics.items() if name.startswith("loss")}
        scores = {name: value for name, value in self.best.metrics.items() if not name.startswith("loss")}
        if intervals:
            none = Interval(None, "none", "regions", 0, "patches overlap and lie in a few regions")
            found |= interval_entries(dict.fromkeys([*losses, *scores], none))
        return finite(
            {
                **found,
                "metrics": {**losses, **scores},
                "per_target": self.best.per_target(),
                "skipped": self.best.skipped,
                "predictions": f"predictions/{FILE}",
            }
        )

    def formats(self, formats: Mapping[str, Any], image_shape: Sequence[int]) -> dict[str, Any]:
        """Formats with one output per target, each of the image's size, and ``pred``: all of them joined, as
        `monai_ext.networks.JoinedTargets` gives them. MONAI Deploy takes an image of one channel only.

        Args:
            formats: outputs of the bundle's ``metadata.json``; their entries override those derived from the targets.
            image_shape: (C, Z, Y, X) of the input.
        """
        common = {"type": "image", "dtype": "float32", "value_range": [-1000, 1000], "is_patch_data": True}
        shape = {"spatial_shape": list(image_shape[1:])}
        channels = {name: range(definition["channels"]) for name, definition in self.targets.items()}
        found = {
            name: {
                **common,
                "type": "image" if definition["channels"] == 1 else "tuples",
                "format": _TYPES[target_kind(definition)],
                "num_channels": definition["channels"],
                "channel_def": {str(channel): f"{name} {channel}" for channel in channels[name]},
                **formats.get(name, {}),
                **shape,
            }
            for name, definition in self.targets.items()
        }
        names = [f"{name} {channel}" for name, numbers in channels.items() for channel in numbers]
        joined = {
            "format": "targets joined",
            "num_channels": len(names),
            "type": "image" if len(names) == 1 else "tuples",
        }
        joined["channel_def"] = {str(channel): name for channel, name in enumerate(names)}
        return {**found, "pred": {**common, **joined, **shape}}

    def best_state(self) -> dict[str, Any]:
        """The records of the patches."""
        return {} if self.best is None else {"patches": [asdict(patch) for patch in self.best.patches]}

    def restore(self, state: Mapping[str, Any]) -> None:
        if state:
            self.best = MultiTargetResult(self.targets, [PatchRecord(**patch) for patch in state["patches"]])

    # -- new cases -----------------------------------------------------------------------------------------------

    def predicted(self, records: Sequence[PatchRecord]) -> Files:
        """The same file as of a validation; predictions of volumes are written by `ZarrSlidingWindow`.

        Args:
            records: of all patches.
        """
        return Files(tables={FILE: MultiTargetResult(self.targets, records).rows()})

    # -- reports -------------------------------------------------------------------------------------------------

    @classmethod
    def read(cls, path: Path, metrics: Mapping[str, Any]) -> list[dict[str, str]]:
        """The rows of the prediction file; it has no sums over voxels, which a result would need.

        Args:
            path: CSV of the patches.
            metrics: ``metrics.json``; not used.

        Raises:
            DataError: for a file that is missing, damaged or empty.
        """
        return filled_rows(path, ["case"])

    @classmethod
    def metric_blocks(cls, metrics: Mapping[str, Any], unit: str) -> list[Block]:
        return patches_sections.metric_blocks(metrics)

    @classmethod
    def sections(cls, result: list[dict[str, str]] | None, unit: str) -> list[Section]:
        return [Section("Patches", patches_sections.patches_blocks(result or []))]
