"""Validation metrics over all cases of all processes, each case once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from ignite.engine import Engine
from scipy.special import softmax

from monai_ext.arrays import to_numpy
from monai_ext.errors import ConfigError, DataError
from monai_ext.metrics.cases import CaseMetric, exact_loss
from monai_ext.metrics.classification import (
    ClassificationResult,
    FloatArray,
    classification_metrics,
    scalar_names,
)
from monai_ext.metrics.parts import merge_parts, part_values


class _Case(NamedTuple):
    number: int
    name: str
    label: int
    logits: FloatArray
    columns: dict[str, Any]

    @property
    def identity(self) -> tuple[Any, ...]:
        return self.name, self.label, self.columns


class ClassificationCases(CaseMetric):
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

    With ``parts`` the items of the data set are parts of cases: several have the same ``case``, ``index`` stays the
    item's own number. The metrics above are then those of the cases, each with the mean of its parts' probabilities;
    the metrics of the parts are added as ``<parts>_<metric>``, their result as ``metric_details["parts"]``. The loss
    is that of the parts, which is what training minimises.

    Args:
        class_names: names of the C classes.
        loss: called once as ``loss(logits (N, C), labels (N,))`` on float64 CPU tensors; a module is copied there
            first, with the weights it has at that moment.
        key: the scalar that goes under the name this metric is attached with.
        positive: see `classification_metrics`.
        parts: what the parts are called, for example ``"crops"``; ``None`` when each item is a case.
        part_columns: keys of the items that tell the parts of a case apart, for the prediction file.

    Example:
        >>> SupervisedEvaluator(..., key_val_metric={"auc": ClassificationCases(["LGG", "HGG"], loss)})
        >>> ClassificationCases(names, loss, "f1", parts="crops", part_columns=["crop_z", "crop_y", "crop_x"])
    """

    def __init__(
        self,
        class_names: Sequence[str],
        loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
        key: str = "auc",
        positive: str | None = None,
        parts: str | None = None,
        part_columns: Sequence[str] = (),
    ) -> None:
        known = [*scalar_names(len(class_names)), *(["loss"] if loss is not None else [])]
        if key not in known:
            raise ConfigError(f"ClassificationCases: key must be one of {known}, got {key!r}")
        if part_columns and parts is None:
            raise ConfigError(f"ClassificationCases: part_columns {list(part_columns)} need a name in parts")
        self.class_names = [str(name) for name in class_names]
        self.loss = loss
        self.key = key
        self.positive = positive
        self.parts = parts
        self.part_columns = list(part_columns)
        super().__init__()

    def record(self, item: Mapping[str, Any]) -> _Case:
        """Logits, label and columns of a case.

        Raises:
            DataError: for logits of another length than the number of classes.
        """
        logits = to_numpy(item["pred"], np.float64).reshape(-1)
        name = str(item["case"])
        if len(logits) != len(self.class_names):
            raise DataError(
                f"ClassificationCases: expected {len(self.class_names)} logits for case {name} "
                f"(classes {self.class_names}), got {len(logits)}"
            )
        columns = part_values(item, self.part_columns)
        return _Case(int(item["index"]), name, int(item["label"]), logits, columns)

    def compute(self) -> tuple[ClassificationResult, float | None]:
        """Metrics of all cases (or parts, where there are some) of all processes, and the loss (``None`` without one).

        A collective call.

        Raises:
            DataError: when there are no cases, or when two different ones have the same index.
        """
        cases = self.collected()
        logits = np.stack([case.logits for case in cases])
        labels = np.array([case.label for case in cases], dtype=np.int64)
        result = classification_metrics(
            softmax(logits, axis=1),
            labels,
            self.class_names,
            self.positive,
            [case.name for case in cases],
            {name: [case.columns[name] for case in cases] for name in self.part_columns},
        )
        return result, exact_loss(self.loss, logits, labels)

    def completed(self, engine: Engine, name: str) -> None:
        items, loss = self.compute()
        details = {"classification": items}
        scalars = dict(items.metrics)
        if self.parts is not None:
            details = {"classification": merge_parts(items, self.positive), "parts": items}
            of_parts = {f"{self.parts}_{metric}": value for metric, value in items.metrics.items()}
            scalars = {**details["classification"].metrics, **of_parts}
        if self.loss is not None:
            scalars["loss"] = loss
        engine.state.metrics[name] = self.publish(engine, scalars, details)[self.key]
