"""Which epoch of a training is reported, and on which cases it was chosen."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine

from monai_ext.errors import ConfigError
from monai_ext.handlers.best import BestEpoch
from monai_ext.handlers.data_summary import Data
from monai_ext.handlers.history import NOT_METRICS
from monai_ext.networks import read_checkpoint
from monai_ext.predictions.kind import Predictions

logger = logging.getLogger("monai_ext")

INNER = "inner"


class LastEpoch(BestEpoch):
    """Takes every epoch, so that the last one stays, whatever its metrics."""

    def update(self, epoch: int, values: Mapping[str, Any]) -> bool:
        self.score, self.epoch = self.score_of(values), epoch
        return True


class EpochSelection:
    """The rule by which a training's epoch is chosen.

    The best of many epochs on a fold says more about that fold than about new cases: of networks that only guess, the
    best of 50 epochs has an AUC of .70 on 57 cases.

    Args:
        rule: ``"best"``: the best epoch on the validated fold, which is then reported on the same cases; ``"last"``:
            the last epoch, nothing is chosen (no early stopping, a schedule by plateaus follows the training loss);
            ``"inner"``: the best epoch on the section ``inner``, which was split off from the training cases, and the
            fold is evaluated once, at the end.
        metrics: that decide, see `BestEpoch`.
        evaluator: the validation engine.
        data: section name → data items.

    Raises:
        ConfigError: for another rule; for ``"inner"`` without an evaluator or a section ``inner``.
    """

    def __init__(
        self, rule: str, metrics: Sequence[str], evaluator: Engine | None = None, data: Data | None = None
    ) -> None:
        if rule not in ("best", "last", INNER):
            raise ConfigError(f"--selection {rule}: must be best, last or inner")
        if rule == INNER and (evaluator is None or not (data or {}).get(INNER)):
            raise ConfigError(
                "--selection inner: the data have no section 'inner'; pass inner_fraction to the function that splits "
                "them, see monai_ext.data.with_inner"
            )
        self.rule = rule
        self.monitor = (LastEpoch if rule == "last" else BestEpoch)(metrics)
        self.evaluator: Any = evaluator
        self.inner_items = (data or {}).get(INNER, ())
        self.fold_loader: Any = None
        self.on_fold = rule != INNER

    @property
    def schedule_metric(self) -> str:
        """What a schedule by plateaus follows; ``-`` in front: less is better."""
        return "-train_loss" if self.rule == "last" else self.monitor.metrics[0]

    def begin(self) -> None:
        """Let the evaluator run on the inner part from now on, where that is the rule."""
        if self.rule == INNER:
            self.fold_loader = self.evaluator.data_loader
            self._evaluate_on(self.fold_loader.over(self.inner_items))
            self.on_fold = False

    def evaluate_fold(self, network: torch.nn.Module, checkpoint: Path, predictions: Predictions | None) -> bool:
        """Evaluate the fold with the chosen network, where it was kept apart so far; a collective call.

        Args:
            network: of the evaluator; gets the checkpoint's weights.
            checkpoint: of the chosen epoch.
            predictions: get the result; what was chosen on the inner part (thresholds) stays.

        Returns:
            Whether the fold was evaluated now.
        """
        if self.rule != INNER or not self.monitor.epoch:
            return False
        logger.info("the fold is evaluated once, with the network of epoch %d", self.monitor.epoch)
        network.load_state_dict(read_checkpoint(checkpoint)["model"])
        if predictions is not None:
            predictions.decide_as_now()
        self._evaluate_on(self.fold_loader)
        self.evaluator.run()
        if predictions is not None:
            predictions.take(self.evaluator)
        self.on_fold = True
        return True

    def _evaluate_on(self, loader: Any) -> None:
        self.evaluator.data_loader = loader
        self.evaluator.state.epoch_length = len(loader)

    def record(self, history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """How the reported figures were chosen, for ``metrics.json``: rule, epochs, and a sentence for readers.

        Args:
            history: entries of the epochs.
        """
        names = [name.removeprefix("-") for name in self.monitor.metrics]
        compared = [entry for entry in history if names[0] in entry]
        found: dict[str, Any] = {
            "rule": self.rule,
            "epoch": self.monitor.epoch,
            "epochs_compared": 0 if self.rule == "last" else len(compared),
            "by": names,
            "chosen_on": {"best": "the reported cases", "last": None, INNER: "an inner part of the training cases"}[
                self.rule
            ],
            "optimistic": (self.rule == "best" and len(compared) > 1) or not self.on_fold,
        }
        last = compared[-1] if compared else {}
        if self.rule == "best" and last:
            metrics = {name: value for name, value in last.items() if name not in NOT_METRICS}
            found["last_epoch"] = {"epoch": last["epoch"], "metrics": metrics}
        return {**found, "sentence": self._sentence(len(compared), last, names[0])}

    def _sentence(self, compared: int, last: Mapping[str, Any], name: str) -> str:
        epoch = self.monitor.epoch
        if self.rule == "last":
            return f"These are the figures of the last epoch ({epoch}); no epoch was chosen."
        if not epoch:
            return "No epoch could be the best one."
        if self.rule == INNER:
            chosen = f"Epoch {epoch} is the best of {compared} on an inner part of the training cases"
            if self.on_fold:
                return f"{chosen}; the fold, whose figures these are, was evaluated once, with its network."
            return f"{chosen}, whose figures these are; the fold has not been evaluated yet."
        if compared < 2:
            return f"Epoch {epoch} is the only one that was validated."
        value = last.get(name, math.nan)
        shown = f"{value:.4f}" if value is not None and math.isfinite(value) else "not computable"
        return (
            f"Epoch {epoch} is the best of {compared} on the same cases that are reported, so these figures are "
            f"optimistic; {name} of the last epoch is {shown}. For figures that are not, train with --selection inner."
        )
