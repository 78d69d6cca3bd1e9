"""Validation metrics of several labels over all cases of all processes, each case once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from ignite.engine import Engine
from scipy.special import expit

from monai_ext.arrays import to_numpy
from monai_ext.errors import ConfigError, DataError
from monai_ext.metrics.cases import CaseMetric, exact_loss
from monai_ext.metrics.multi_label import MultiLabelResult, multi_label_metrics
from monai_ext.metrics.multi_label_scores import FloatArray, overall_score_names
from monai_ext.metrics.parts import MERGES, merge_label_parts, part_values


class _Case(NamedTuple):
    number: int
    name: str
    labels: tuple[float, ...]
    logits: FloatArray
    columns: dict[str, Any]

    @property
    def identity(self) -> tuple[Any, ...]:
        return self.name, self.labels, self.columns


class MultiLabelCases(CaseMetric):
    """Collect logits and labels of every case, then compute loss and metrics once, over all of them.

    As `ClassificationCases`, for several labels: the postprocessing leaves logits (C,) in ``pred`` and C numbers 0 or
    1 in ``label``; the probabilities are the logits' sigmoids. At the end of the epoch ``engine.state.metrics`` has
    the scalars of `multi_label_metrics` and ``loss``, NaN where not computable, and
    ``engine.state.metric_details["multi_label"]`` the whole `MultiLabelResult`, cases in the order of ``index``.

    With ``parts`` the items of the data set are parts of cases (slices of volumes): several have the same ``case``,
    ``index`` stays the item's own number. The metrics above are then those of the cases; the metrics of the parts are
    added as ``<parts>_<metric>``, their result as ``metric_details["parts"]``. The loss is that of the parts, which
    is what training minimises.

    Args:
        class_names: names of the C classes.
        loss: called once as ``loss(logits (N, C), labels (N, C))`` on float64 CPU tensors; a module is copied there
            first.
        key: the scalar that goes under the name this metric is attached with.
        thresholds: of each class, for the scores with the suffix ``_tuned``; with parts they are the cases'.
        parts: what the parts are called, for example ``"slices"``; ``None`` when each item is a case.
        part_columns: keys of the items that tell the parts of a case apart, for the prediction file.
        merge: ``"mean"`` or ``"max"``, see `merge_label_parts`.

    Example:
        >>> MultiLabelCases(LABELS, loss, parts="slices", part_columns=["slice_index"])
    """

    def __init__(
        self,
        class_names: Sequence[str],
        loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
        key: str = "auroc",
        thresholds: Sequence[float] | None = None,
        parts: str | None = None,
        part_columns: Sequence[str] = (),
        merge: str = "mean",
    ) -> None:
        known = [*overall_score_names(thresholds is not None), *(["loss"] if loss is not None else [])]
        if key not in known:
            raise ConfigError(f"MultiLabelCases: key must be one of {known}, got {key!r}")
        if part_columns and parts is None:
            raise ConfigError(f"MultiLabelCases: part_columns {list(part_columns)} need a name in parts")
        if merge not in MERGES:
            raise ConfigError(f"MultiLabelCases: merge must be one of {', '.join(MERGES)}, got {merge!r}")
        self.class_names = [str(name) for name in class_names]
        self.loss = loss
        self.key = key
        self.thresholds = None if thresholds is None else list(thresholds)
        self.parts = parts
        self.part_columns = list(part_columns)
        self.merge = merge
        super().__init__()

    def record(self, item: Mapping[str, Any]) -> _Case:
        """Logits, labels and columns of a case.

        Raises:
            DataError: for logits or labels of another length than the number of classes.
        """
        logits, labels = (to_numpy(item[key], np.float64).reshape(-1) for key in ("pred", "label"))
        name = str(item["case"])
        for what, values in (("logits", logits), ("labels", labels)):
            if len(values) != len(self.class_names):
                raise DataError(
                    f"MultiLabelCases: expected {len(self.class_names)} {what} for case {name} "
                    f"(classes {self.class_names}), got {len(values)}"
                )
        return _Case(int(item["index"]), name, tuple(labels.tolist()), logits, part_values(item, self.part_columns))

    def compute(self) -> tuple[MultiLabelResult, float | None]:
        """Metrics of all cases (or parts, where there are some) of all processes, and the loss (``None`` without one).

        A collective call.

        Raises:
            DataError: when there are no cases, or when two different ones have the same index.
        """
        cases = self.collected()
        logits = np.stack([case.logits for case in cases])
        labels = np.array([case.labels for case in cases], dtype=np.float64)
        result = multi_label_metrics(
            expit(logits),
            labels,
            self.class_names,
            self.thresholds if self.parts is None else None,
            [case.name for case in cases],
            {name: [case.columns[name] for case in cases] for name in self.part_columns},
        )
        return result, exact_loss(self.loss, logits, labels)

    def completed(self, engine: Engine, name: str) -> None:
        items, loss = self.compute()
        details = {"multi_label": items}
        scalars = dict(items.metrics)
        if self.parts is not None:
            details = {"multi_label": merge_label_parts(items, self.merge, self.thresholds), "parts": items}
            of_parts = {f"{self.parts}_{metric}": value for metric, value in items.metrics.items()}
            scalars = {**details["multi_label"].metrics, **of_parts}
        if self.loss is not None:
            scalars["loss"] = loss
        engine.state.metrics[name] = self.publish(engine, scalars, details)[self.key]
