"""What happened in each epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events

# What an epoch's entry holds beside metrics.
NOT_METRICS = {"epoch", "lr", "trained_parameters", "seconds", "data_seconds"}


class History:
    """One entry an epoch: mean training loss over all samples of all processes, validation metrics, times.

    Args:
        evaluator: engine whose scalar metrics are added (its ``loss`` as ``val_loss``) in epochs where it ran.

    Attributes:
        entries: ``{"epoch", "train_loss", "lr", "trained_parameters", "seconds", "data_seconds", ...}``, oldest
            first; ``trained_parameters`` is how many numbers the optimizer changes, ``data_seconds`` what the trainer
            waited for data.
    """

    def __init__(self, evaluator: Engine | None = None) -> None:
        self.evaluator = evaluator
        self.entries: list[dict[str, Any]] = []
        self._sum = torch.zeros(2, dtype=torch.float64)
        self._validated = False
        self._waiting = self._started = 0.0
        self._waited = 0.0
        self._restored = [0.0, 0.0]

    def attach(self, engine: Engine) -> None:
        """Register with a trainer (and with the evaluator given before)."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._epoch_started)
        engine.add_event_handler(Events.GET_BATCH_STARTED, self._get_batch_started)
        engine.add_event_handler(Events.GET_BATCH_COMPLETED, self._get_batch_completed)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._iteration_completed)
        if self.evaluator is not None:
            self.evaluator.add_event_handler(Events.EPOCH_COMPLETED, self._evaluated)

    def record(self, engine: Engine) -> dict[str, Any]:
        """Close the epoch: its new entry, the same in all processes."""
        total, count = idist.all_reduce(self._sum.clone()).tolist()
        entry: dict[str, Any] = {
            "epoch": engine.state.epoch,
            "train_loss": total / count if count else math.nan,
            "lr": float(engine.optimizer.param_groups[0]["lr"]),
            "trained_parameters": _trained(engine.optimizer),
        }
        if self._validated and self.evaluator is not None:
            for name, value in self.evaluator.state.metrics.items():
                if isinstance(value, (int, float)):
                    entry["val_loss" if name == "loss" else name] = float(value)
        entry["seconds"] = round(time.perf_counter() - self._started, 3)
        entry["data_seconds"] = round(self._waited, 3)
        self.entries.append(entry)
        return entry

    @property
    def validated(self) -> bool:
        """Whether the evaluator ran in this epoch."""
        return self._validated

    def summary(self) -> dict[str, dict[str, float]]:
        """Smallest, largest, mean and standard deviation of the losses over the epochs."""
        found = {}
        for key, name in (("train_loss", "train"), ("val_loss", "val")):
            values = [entry[key] for entry in self.entries if math.isfinite(entry.get(key, math.nan))]
            if values:
                mean = sum(values) / len(values)
                variance = sum((value - mean) ** 2 for value in values) / len(values)
                found[name] = {"min": min(values), "max": max(values), "mean": mean, "std": math.sqrt(variance)}
        return found

    def state_dict(self) -> dict[str, Any]:
        """Entries and the loss that all processes have collected in the running epoch; a collective call."""
        return {"entries": list(self.entries), "sum": idist.all_reduce(self._sum.clone()).tolist()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over `state_dict`; the sum counts when the resumed epoch had already begun."""
        self.entries = [dict(entry) for entry in state["entries"]]
        self._restored = list(state["sum"]) if idist.get_rank() == 0 else [0.0, 0.0]

    def _epoch_started(self, engine: Engine) -> None:
        within = engine.state.iteration % (engine.state.epoch_length or 1)
        self._sum = torch.tensor(self._restored if within else [0.0, 0.0], dtype=torch.float64)
        self._restored = [0.0, 0.0]
        self._validated = False
        self._started, self._waited = time.perf_counter(), 0.0

    def _get_batch_started(self) -> None:
        self._waiting = time.perf_counter()

    def _get_batch_completed(self) -> None:
        self._waited += time.perf_counter() - self._waiting

    def _iteration_completed(self, engine: Engine) -> None:
        loss, size = loss_and_size(engine.state.output)
        if math.isfinite(loss):
            self._sum += torch.tensor([loss * size, size], dtype=torch.float64)

    def _evaluated(self) -> None:
        self._validated = True


def _trained(optimizer: torch.optim.Optimizer) -> int:
    return sum(p.numel() for group in optimizer.param_groups for p in group["params"] if p.requires_grad)


def loss_and_size(output: Any) -> tuple[float, int]:
    """Loss and number of samples of a trainer's output, decollated or not."""
    if isinstance(output, list):
        return float(output[0]["loss"]), len(output)
    return float(output["loss"]), len(output["image"])
