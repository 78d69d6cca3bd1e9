"""The best epoch, by a metric and others that break its ties."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from monai_ext.errors import ConfigError
from monai_ext.handlers.history import NOT_METRICS
from monai_ext.metrics.direction import lower_is_better
from monai_ext.settings.names import nearest

logger = logging.getLogger(__name__)


class BestEpoch:
    """Compares epochs by several metrics in turn.

    Args:
        metrics: names in order of importance; a ``-`` in front means that less is better. The later ones break ties
            of the earlier ones; at a full tie the earlier epoch stays.
        min_delta: least improvement of the first metric.

    Raises:
        ConfigError: without any metric, or for one without ``-`` of which less is better.

    A first metric that is NaN, infinite or missing (a one-class AUC, say) never counts as best; this is logged once.
    """

    def __init__(self, metrics: Sequence[str], min_delta: float = 0.0) -> None:
        if not metrics:
            raise ConfigError("BestEpoch: name at least one metric")
        for name in metrics:
            if lower_is_better(name) and not name.startswith("-"):
                raise ConfigError(f"BestEpoch: of {name} less is better; write {'-' + name!r}")
        self.metrics = list(metrics)
        self.min_delta = min_delta
        self.epoch = 0
        self.score: list[float] | None = None
        self._warned = False

    def update(self, epoch: int, values: Mapping[str, Any]) -> bool:
        """Compare an epoch's metrics with the best; returns whether it is the best so far.

        Args:
            epoch: number of the epoch, from 1.
            values: metrics by name.

        Raises:
            ConfigError: when a metric doesn't exist.
        """
        score = self.score_of(values)
        if math.isnan(score[0]):
            if not self._warned:
                logger.warning("epoch %d: %s can't be computed, so the epoch can't be the best", epoch, self.metrics[0])
                self._warned = True
            return False
        score = [-math.inf if math.isnan(value) else value for value in score]
        if self.score is not None and not self._beats(score, self.score):
            return False
        self.score, self.epoch = score, epoch
        return True

    def score_of(self, values: Mapping[str, Any]) -> list[float]:
        """An epoch's metrics in order of importance, more is better, NaN where not computable or infinite.

        Args:
            values: metrics by name.

        Raises:
            ConfigError: when a metric doesn't exist.
        """
        return [self._score(name, values) for name in self.metrics]

    def _beats(self, new: list[float], old: list[float]) -> bool:
        if new[0] != old[0]:
            return new[0] > old[0] and new[0] - old[0] >= self.min_delta
        return new > old

    def _score(self, name: str, values: Mapping[str, Any]) -> float:
        key = name.removeprefix("-")
        if key not in values:
            known = nearest(key, set(values) - NOT_METRICS)
            raise ConfigError(f"metric {key!r} does not exist, or is no number{known}")
        value = values[key]
        if value is None or not math.isfinite(value):
            return math.nan
        return -float(value) if name.startswith("-") else float(value)

    def state_dict(self) -> dict[str, Any]:
        """Best epoch and its score."""
        return {"epoch": self.epoch, "score": self.score}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a `state_dict`.

        Args:
            state: best epoch and its score.
        """
        self.epoch, self.score = state["epoch"], state["score"]
