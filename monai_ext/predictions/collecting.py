"""The cases of an evaluation, collected from all processes, each once."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
import torch.distributed as dist
from ignite.engine import Engine
from ignite.metrics import Metric

from monai_ext.errors import ConfigError, DataError


class CaseMetric(Metric):
    """Metric that keeps a record of every case of an evaluation; results don't depend on batch size or ranks.

    The evaluator has to decollate (its default), and batches need ``case``, the name of each case, and ``index``, the
    item's number in the whole dataset, the same in every process. Sub-classes define the record, and the result of all
    records.
    """

    needed: ClassVar[tuple[str, ...]] = ("pred", "case", "index")

    def __init__(self) -> None:
        self._records: list[Any] = []
        super().__init__(skip_unrolling=True)

    @abstractmethod
    def record(self, item: Mapping[str, Any]) -> Any:
        """The record of a case.

        It has ``number``, the case's index, ``name``, ``identity``, equal for the same case only, and ``is_finite``.

        Args:
            item: batch and output of the case in one mapping.
        """

    def reset(self) -> None:
        self._records = []

    @torch.no_grad()
    def iteration_completed(self, engine: Engine) -> None:
        # Ignite passes the output alone; the names and indices are in the batch.
        self.update((engine.state.batch, engine.state.output))

    def update(self, output: tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]) -> list[Any]:
        """Add one batch.

        Args:
            output: decollated batch and its output, both lists with one dictionary per case.

        Returns:
            The new records.

        Raises:
            ConfigError: when they are not lists of dictionaries or lack a key.
        """
        who = type(self).__name__
        batch, outputs = output
        if not isinstance(batch, list) or not isinstance(outputs, list):
            raise ConfigError(f"{who}: needs decollated batches; leave decollate=True on the evaluator")
        new = []
        for given, made in zip(batch, outputs, strict=True):
            # Where cases needn't have a label, MONAI's output holds None in its place.
            item = {**given, **{name: value for name, value in made.items() if value is not None}}
            missing = [name for name in self.needed if name not in item]
            if missing:
                raise ConfigError(f"{who}: each case needs {missing[0]!r}, got the keys {sorted(item)}")
            new.append(self.record(item))
        self._records += new
        return new

    def collected(self) -> list[Any]:
        """Records of all processes in the order of their numbers, each once; a collective call.

        Raises:
            DataError: when two different cases have the same number.
        """
        first: dict[int, Any] = {}
        for record in gathered(self._records):
            kept = first.setdefault(record.number, record)
            if kept.identity != record.identity:
                raise DataError(
                    f"{type(self).__name__}: cases {kept.name!r} and {record.name!r} both have index {record.number}; "
                    "the index must be the item's number in the whole dataset"
                )
        return [first[index] for index in sorted(first)]


def exact_loss(
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None, logits: np.ndarray, labels: np.ndarray
) -> float | None:
    """A loss over all cases in float64 on the CPU; ``None`` without one.

    A module is copied there first, with its present weights.

    Args:
        loss: called as ``loss(logits, labels)``.
        logits: (N, C).
        labels: (N,) or (N, C).
    """
    if loss is None:
        return None
    if isinstance(loss, torch.nn.Module):
        loss = copy.deepcopy(loss).to("cpu", torch.float64)
    return float(loss(torch.from_numpy(logits), torch.from_numpy(labels)))


def gathered(records: list[Any]) -> list[Any]:
    """The records of all processes, those of the main one first; a collective call."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return records
    parts: list[list[Any]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(parts, records)
    return [record for part in parts for record in part]
