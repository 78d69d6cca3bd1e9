"""The predictions of a network with several targets, in numbers: patches are too large to be kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ignite.engine import Engine

from monai_ext.io import finite, write_csv
from monai_ext.metrics import MultiTargetResult, PatchRecord
from monai_ext.targets import Definition, target_kind

FILE = "val_patches.csv"
_TYPES = {"labels": "segmentation", "classes": "segmentation", "vectors": "vectors", "values": "magnitude"}


class TargetOutputs:
    """Keeps the result that `monai_ext.metrics.MultiTargetPatches` left in an evaluator, and writes it.

    There are no confidence intervals: patches overlap and lie in a few regions, so that a bootstrap over them would
    promise more than the data hold.

    Args:
        targets: definition of each target by name.

    Attributes:
        result: ``None`` before the first validation.
    """

    cases: str | None = "patches"
    parts: str | None = None

    def __init__(self, targets: Mapping[str, Definition]) -> None:
        self.targets = dict(targets)
        self.result: MultiTargetResult | None = None

    def take(self, evaluator: Engine) -> None:
        """Take over the result of the validation that has just ended."""
        self.result = evaluator.state.metric_details["targets"]

    def for_checkpoint(self, evaluator: Engine) -> dict[str, Any]:
        """Nothing beside the network."""
        return {}

    def write(self, folder: str | Path) -> None:
        """Write ``val_patches.csv``: a row a patch with its losses and metrics."""
        if self.result is not None:
            write_csv(Path(folder) / FILE, self.result.rows())

    def metrics(self, intervals: bool = False) -> dict[str, Any]:
        """The part of ``metrics.json`` that tells of the best epoch, ``per_target`` among it."""
        found: dict[str, Any] = {"per_class": {}, "confusion_matrix": [], "intervals": {}, "cases": self.cases}
        if self.result is None:
            return {**found, "metrics": {}, "per_target": {}, "skipped": ["no validation"]}
        losses = {"val_" + name: value for name, value in self.result.metrics.items() if name.startswith("loss")}
        scores = {name: value for name, value in self.result.metrics.items() if not name.startswith("loss")}
        return finite(
            {
                **found,
                "metrics": {**losses, **scores},
                "per_target": self.result.per_target(),
                "skipped": self.result.skipped,
                "predictions": f"predictions/{FILE}",
            }
        )

    def report(self) -> None:
        """There is no text beside the metrics."""

    def plots(self) -> dict[str, Any]:
        """Curves and previews show it all."""
        return {"cases": self.cases}

    def formats(self, formats: Mapping[str, Any], image_shape: Sequence[int]) -> dict[str, Any]:
        """One output a target, each with the image's size."""
        return {
            name: {
                "type": "image",
                "format": _TYPES[target_kind(definition)],
                "num_channels": definition["channels"],
                "dtype": "float32",
                "value_range": [-1000, 1000],
                "is_patch_data": True,
                "channel_def": {str(channel): f"{name} {channel}" for channel in range(definition["channels"])},
                **formats.get(name, {}),
                "spatial_shape": list(image_shape[1:]),
            }
            for name, definition in self.targets.items()
        }

    def state_dict(self) -> dict[str, Any]:
        """The records of the patches."""
        return {} if self.result is None else {"patches": [asdict(patch) for patch in self.result.patches]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over `state_dict`."""
        if state:
            self.result = MultiTargetResult(self.targets, [PatchRecord(**patch) for patch in state["patches"]])
