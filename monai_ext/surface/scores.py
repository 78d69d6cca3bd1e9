"""Scores of a network's targets in memory, each under its own name."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

from monai_ext.inferers.streaming.targets import stored_targets


class TargetScoresd(MapTransform):
    """Put the targets of joined logits beside them, activated as `monai_ext.inferers.ZarrSlidingWindow` does.

    The item gets each target under its own name: scores 0 to 1, unit vectors or values, (channels, Z, Y, X) float32.
    What stands under the key itself becomes the first target.

    Args:
        keys: of logits (sum of the targets' channels, Z, Y, X), in the order of the targets. Where a key is missing,
            they stand under the first target's name: so MONAI Deploy calls what the network gives.
        targets: definitions by name, see `monai_ext.surface.predicted_targets`.

    Raises:
        ConfigError: when a definition is wrong.
    """

    def __init__(self, keys: KeysCollection, targets: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__(keys)
        self.targets = stored_targets(targets, dtypes=dict.fromkeys(targets, "float32"))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        first = next(iter(self.targets))
        for key in self.keys:
            joined = result[key] if key in result else result[first]
            logits = joined.split([target.channels for target in self.targets.values()])
            for (name, target), part in zip(self.targets.items(), logits, strict=True):
                result[name] = target.activate(part)
            result[key] = result[first]
        return result
