"""The epochs of the top-k checkpoints."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from monai_ext.errors import ConfigError
from monai_ext.handlers.best import BestEpoch


class TopEpochs:
    """Ranks epochs as `BestEpoch` does; at a tie the earlier one stays in front.

    Args:
        best: its metrics rank the epochs.
        count: number k of epochs to keep, at least 1.

    Attributes:
        scores: epoch → its metrics, for the epochs that are kept.

    Raises:
        ConfigError: for a count below 1.
    """

    def __init__(self, best: BestEpoch, count: int) -> None:
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ConfigError(f"--keep_best {count!r}: must be an integer of at least 1")
        self.best = best
        self.count = count
        self.scores: dict[int, list[float]] = {}

    def update(self, epoch: int, values: Mapping[str, Any]) -> list[int]:
        """Rank an epoch; returns the epochs that are no longer among the best, perhaps this one."""
        score = self.best.score_of(values)
        if math.isnan(score[0]):
            return [epoch]
        self.scores[epoch] = [-math.inf if math.isnan(value) else value for value in score]
        ranked = sorted(self.scores, key=lambda e: (self.scores[e], -e), reverse=True)
        return [self._drop(e) for e in ranked[self.count :]]

    def _drop(self, epoch: int) -> int:
        del self.scores[epoch]
        return epoch

    def state_dict(self) -> dict[str, Any]:
        """The epochs that are kept, and their scores."""
        return {"scores": {str(epoch): score for epoch, score in self.scores.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a `state_dict`; that of a run from before epochs were ranked is empty."""
        self.scores = {int(epoch): list(score) for epoch, score in state.get("scores", {}).items()}
