"""Pictures of predictions beside the ground truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events

from monai_ext.arrays import to_numpy
from monai_ext.errors import ConfigError
from monai_ext.targets import Definition

_ACTIVATE = {"none": lambda x: x, "sigmoid": torch.sigmoid, "softmax": lambda x: torch.softmax(x, dim=0)}


class SlicePreviews:
    """Keeps some patches or 2-D slices of a validation, from its beginning to its end, and draws them.

    Of a batch the first item with any label is kept, else its first.

    Args:
        targets: definition of each target by name. With one target predictions and labels may be plain tensors;
            with several they are dicts of target → tensor. Of a `monai_ext.networks.CordUNet` with ``visible_head`` the
            mask is drawn.
        count: number of items, at least 1; at most one per batch.

    Raises:
        ConfigError: for a count below 1.

    Example:
        >>> SlicePreviews({"lesion": {"channels": 1, "activation": "sigmoid"}})
    """

    def __init__(self, targets: Mapping[str, Definition], count: int = 3) -> None:
        if count < 1:
            raise ConfigError(f"SlicePreviews: count must be at least 1, got {count}")
        self.targets = dict(targets)
        self.count = count
        self.samples: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator.

        Args:
            engine: the evaluator.
        """
        engine.add_event_handler(Events.EPOCH_STARTED, self.samples.clear)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._take)

    def figure(self) -> Any:
        """A figure by `monai_ext.reports.slice_figure` of the last validation."""
        from monai_ext.reports.slices import slice_figure

        return slice_figure(self.samples, self.targets)

    def _take(self, engine: Engine) -> None:
        length = engine.state.epoch_length or 1
        chosen = np.linspace(1, length, min(self.count, length)).round().astype(int)
        if (engine.state.iteration - 1) % length + 1 not in chosen:
            return
        found = [(self._by_target(output["label"]), output) for output in engine.state.output]
        number = next((n for n, (labels, _) in enumerate(found) if any(bool(v.any()) for v in labels.values())), 0)
        (label, output), batch = found[number], engine.state.batch[number]
        pred = self._by_target(output["pred"])
        activations = {name: _ACTIVATE[each.get("activation", "none")] for name, each in self.targets.items()}
        self.samples.append(
            {
                "image": to_numpy(output["image"], np.float32),
                "label": {name: to_numpy(label[name], np.float32) for name in self.targets},
                "pred": {name: to_numpy(activate(pred[name]), np.float32) for name, activate in activations.items()},
                "case": str(batch["case"]),
            }
        )

    def _by_target(self, tensors: torch.Tensor | Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        if not torch.is_tensor(tensors):
            return tensors if self.targets.keys() <= tensors.keys() else self._by_target(tensors["cord"])
        if len(self.targets) > 1:
            raise ConfigError(f"SlicePreviews: one tensor for the targets {', '.join(self.targets)}; name one target")
        return {name: tensors for name in self.targets}
