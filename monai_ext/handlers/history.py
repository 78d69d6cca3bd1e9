"""Losses, metrics and times of each epoch."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events

from monai_ext.predictions.kind import validation_name

logger = logging.getLogger("monai_ext")

# Keys of an epoch's entry that are no metrics.
NOT_METRICS = {"epoch", "lr", "trained_parameters", "seconds", "data_seconds"}


class History:
    """One entry per epoch: mean training loss over all samples of all processes, validation metrics, times.

    Args:
        evaluator: engine whose scalar metrics are added in epochs where it ran, its ``loss`` as ``val_loss``.

    Attributes:
        entries: ``{"epoch", "train_loss", "lr", "trained_parameters", "seconds", "data_seconds", ...}``, oldest
            first; ``trained_parameters`` is the number of trained values, ``data_seconds`` the time that
            the trainer waited for data. Where a loss has terms (``loss_sheet``), there are ``train_loss_sheet`` and
            ``val_loss_sheet``, too. A mean is over the samples for which its number is finite, NaN without any.
    """

    def __init__(self, evaluator: Engine | None = None) -> None:
        self.evaluator = evaluator
        self.entries: list[dict[str, Any]] = []
        # Tensors on the device of the losses: reading each of them would make the host wait in every iteration.
        self._sums: dict[str, float | torch.Tensor] = {"loss": 0.0}
        self._samples: dict[str, float | torch.Tensor] = {"loss": 0.0}
        self._validated = False
        self._waiting = self._started = 0.0
        self._waited = 0.0
        self._restored: dict[str, Any] = {}
        self._odd: set[str] = set()

    def attach(self, engine: Engine) -> None:
        """Register with a trainer (and with the evaluator given before).

        Args:
            engine: the trainer.
        """
        engine.add_event_handler(Events.EPOCH_STARTED, self._epoch_started)
        engine.add_event_handler(Events.GET_BATCH_STARTED, self._get_batch_started)
        engine.add_event_handler(Events.GET_BATCH_COMPLETED, self._get_batch_completed)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._iteration_completed)
        if self.evaluator is not None:
            self.evaluator.add_event_handler(Events.EPOCH_COMPLETED, self._evaluated)

    def record(self, engine: Engine) -> dict[str, Any]:
        """End the epoch; returns its new entry, the same in all processes.

        Args:
            engine: the trainer.
        """
        sums, samples = self._reduced()
        entry: dict[str, Any] = {
            "epoch": engine.state.epoch,
            **{f"train_{name}": total / samples[name] if samples[name] else math.nan for name, total in sums.items()},
            "lr": float(engine.optimizer.param_groups[0]["lr"]),
            "trained_parameters": _trained(engine.optimizer),
        }
        if self._validated and self.evaluator is not None:
            for name, value in self.evaluator.state.metrics.items():
                if isinstance(value, (int, float)):
                    entry[validation_name(name)] = float(value)
                elif not isinstance(value, Mapping) and name not in self._odd:  # Ignite adds a mapping's own entries
                    self._odd.add(name)
                    logger.warning("metric %s is no number (%s): it is not recorded", name, type(value).__name__)
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
        """Entries and the losses that all processes have summed up in the running epoch; a collective call."""
        sums, samples = self._reduced()
        return {"entries": list(self.entries), "sums": sums, "samples": samples}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a `state_dict`; the sums count when the resumed epoch had already begun.

        Args:
            state: entries, and sums of the losses of the running epoch.
        """
        self.entries = [dict(entry) for entry in state["entries"]]
        sums, samples = dict(state["sums"]), state["samples"]
        if not isinstance(samples, Mapping):  # of a checkpoint from before each term had its own
            samples = dict.fromkeys(sums, samples)
        if idist.get_rank() > 0:  # they hold what all processes had
            sums = samples = dict.fromkeys(sums, 0.0)
        self._restored = {"sums": dict(sums), "samples": dict(samples)}

    def _epoch_started(self, engine: Engine) -> None:
        within = engine.state.iteration % (engine.state.epoch_length or 1)
        restored = self._restored if within else {}
        self._sums, self._samples = restored.get("sums", {"loss": 0.0}), restored.get("samples", {"loss": 0.0})
        self._restored = {}
        self._validated = False
        self._started, self._waited = time.perf_counter(), 0.0

    def _get_batch_started(self) -> None:
        self._waiting = time.perf_counter()

    def _get_batch_completed(self) -> None:
        self._waited += time.perf_counter() - self._waiting

    def _iteration_completed(self, engine: Engine) -> None:
        losses, size = _losses_and_size(engine.state.output)
        counts = torch.isfinite(losses["loss"])
        for name, loss in losses.items():
            of_term = counts & torch.isfinite(loss)
            self._sums[name] = self._sums.get(name, 0.0) + torch.where(of_term, loss * size, 0.0)
            self._samples[name] = self._samples.get(name, 0.0) + of_term * float(size)

    def _reduced(self) -> tuple[dict[str, float], dict[str, float]]:
        # The same names in the same order in all processes: each of them computes every term of the loss.
        numbers = [float(number) for number in (*self._sums.values(), *self._samples.values())]
        totals = idist.all_reduce(torch.tensor(numbers, dtype=torch.float64)).tolist()
        names = list(self._sums)
        return dict(zip(names, totals[: len(names)], strict=True)), dict(zip(names, totals[len(names) :], strict=True))

    def _evaluated(self) -> None:
        self._validated = True


def _trained(optimizer: torch.optim.Optimizer) -> int:
    return sum(p.numel() for group in optimizer.param_groups for p in group["params"] if p.requires_grad)


def _losses_and_size(output: Any) -> tuple[dict[str, torch.Tensor], int]:
    """Loss, its terms, and the number of samples of a trainer's output, decollated or not."""
    first, size = (output[0], len(output)) if isinstance(output, list) else (output, len(output["image"]))
    names = ["loss", *(name for name in first if name.startswith("loss_"))]
    return {name: _wide(torch.as_tensor(first[name]).detach()) for name in names}, size


def _wide(loss: torch.Tensor) -> torch.Tensor:
    """In float64, which Apple's GPUs don't have."""
    return loss.float() if loss.device.type == "mps" else loss.double()
