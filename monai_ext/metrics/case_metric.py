"""Validation metrics over all cases of all processes, each case once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from ignite.engine import Engine
from ignite.metrics import Metric
from scipy.special import softmax

from monai_ext.errors import ConfigError, DataError
from monai_ext.metrics.classification import SCALARS, ClassificationResult, FloatArray, IntArray, classification_metrics


class _Case(NamedTuple):
    number: int
    name: str
    label: int
    logits: FloatArray


class ClassificationCases(Metric):
    """Collect logits and labels of every case, then compute loss and metrics once, over all of them.

    Neither depends on the batch size or the number of processes: averages of batch averages would be wrong for a
    loss with class weights, and a distributed sampler repeats cases to fill up its last round. Use it as the
    ``key_val_metric`` of a `monai.engines.SupervisedEvaluator` (with ``decollate=True``, its default) whose
    postprocessing leaves logits (C,) in ``pred`` and a class index in ``label``. The batch must also hold ``case``
    (its name) and ``index`` (its number in the whole data set, the same in every process).

    At the end of the epoch every process has in ``engine.state.metrics`` the scalars of `classification_metrics`
    and ``loss``, NaN where not computable, and in ``engine.state.metric_details["classification"]`` the whole
    `ClassificationResult`, cases in the order of ``index``. A NaN must never become "best": MONAI takes the first
    key metric whatever it is, so compare with that in mind.

    Args:
        class_names: names of the C classes.
        loss: called once as ``loss(logits (N, C), labels (N,))`` on float64 CPU tensors; a module is copied there
            first, with the weights it has at that moment.
        key: the scalar that goes under the name this metric is attached with.
        positive: see `classification_metrics`.

    Example:
        >>> SupervisedEvaluator(..., key_val_metric={"auc": ClassificationCases(["LGG", "HGG"], loss)})
    """

    def __init__(
        self,
        class_names: Sequence[str],
        loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
        key: str = "auc",
        positive: str | None = None,
    ) -> None:
        known = [*SCALARS, "loss"] if loss is not None else [*SCALARS]
        if key not in known:
            raise ConfigError(f"ClassificationCases: key must be one of {known}, got {key!r}")
        self.class_names = [str(name) for name in class_names]
        self.loss = loss
        self.key = key
        self.positive = positive
        self._cases: list[_Case] = []
        super().__init__(skip_unrolling=True)

    def reset(self) -> None:
        self._cases = []

    @torch.no_grad()
    def iteration_completed(self, engine: Engine) -> None:
        # Ignite hands over the output alone; the names and indices are in the batch.
        self.update((engine.state.batch, engine.state.output))

    def update(self, output: tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]) -> None:
        """Take one decollated batch and its output, both lists with one dictionary a case.

        Raises:
            ConfigError: when they are not lists of dictionaries or lack a key.
            DataError: for logits of another length than the number of classes.
        """
        batch, outputs = output
        if not isinstance(batch, list) or not isinstance(outputs, list):
            raise ConfigError("ClassificationCases: needs decollated batches; leave decollate=True on the evaluator")
        for item in ({**given, **made} for given, made in zip(batch, outputs, strict=True)):
            missing = [name for name in ("pred", "label", "case", "index") if name not in item]
            if missing:
                raise ConfigError(f"ClassificationCases: each case needs {missing[0]!r}, got the keys {sorted(item)}")
            logits = torch.as_tensor(item["pred"]).detach().to("cpu", torch.float64).numpy().reshape(-1)
            name = str(item["case"])
            if len(logits) != len(self.class_names):
                raise DataError(
                    f"ClassificationCases: expected {len(self.class_names)} logits for case {name} "
                    f"(classes {self.class_names}), got {len(logits)}"
                )
            self._cases.append(_Case(int(item["index"]), name, int(item["label"]), logits))

    def compute(self) -> tuple[ClassificationResult, float | None]:
        """Metrics of all cases of all processes, and the loss (``None`` without one). A collective call.

        Raises:
            DataError: when there are no cases, or when two different cases have the same index.
        """
        cases = _unique(_gather(self._cases))
        if not cases:
            raise DataError("ClassificationCases: the validation data hold no cases")
        logits = np.stack([case.logits for case in cases])
        labels = np.array([case.label for case in cases], dtype=np.int64)
        result = classification_metrics(
            softmax(logits, axis=1), labels, self.class_names, self.positive, [case.name for case in cases]
        )
        return result, self._loss_of(logits, labels)

    def completed(self, engine: Engine, name: str) -> None:
        result, loss = self.compute()
        scalars = {**result.metrics, **({"loss": loss} if self.loss is not None else {})}
        numbers = {metric: float("nan") if value is None else value for metric, value in scalars.items()}
        engine.state.metrics.update(numbers)
        engine.state.metrics[name] = numbers[self.key]
        if not hasattr(engine.state, "metric_details"):
            engine.state.metric_details = {}
        engine.state.metric_details["classification"] = result

    def _loss_of(self, logits: FloatArray, labels: IntArray) -> float | None:
        if self.loss is None:
            return None
        loss = self.loss
        if isinstance(loss, torch.nn.Module):
            loss = copy.deepcopy(loss).to("cpu", torch.float64)
        return float(loss(torch.from_numpy(logits), torch.from_numpy(labels)))


def _gather(cases: list[_Case]) -> list[_Case]:
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return cases
    parts: list[list[_Case]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(parts, cases)
    return [case for part in parts for case in part]


def _unique(cases: list[_Case]) -> list[_Case]:
    """Each index once, in the order of the indices."""
    first: dict[int, _Case] = {}
    for case in cases:
        kept = first.setdefault(case.number, case)
        if (kept.name, kept.label) != (case.name, case.label):
            raise DataError(
                f"ClassificationCases: cases {kept.name!r} and {case.name!r} both have index {case.number}; "
                "the index must be the case's number in the whole data set"
            )
    return [first[index] for index in sorted(first)]
