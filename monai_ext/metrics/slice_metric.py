"""Validation metrics of one mask a slice, over all slices of all processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from ignite.engine import Engine
from monai.metrics import get_confusion_matrix

from monai_ext.errors import ConfigError, DataError
from monai_ext.metrics.cases import CaseMetric
from monai_ext.metrics.segmentation import SegmentationResult, SliceRecord


class SegmentationCases(CaseMetric):
    """Compare the predicted mask of every slice with the true one, then say once what all of them together give.

    Use it as the ``key_val_metric`` of a `monai.engines.SupervisedEvaluator` (with ``decollate=True``, its default)
    whose output holds logits (1, Y, X) in ``pred`` (or a dict with them as ``cord``, see
    `monai_ext.networks.CordUNet`) and a mask (1, Y, X) of 0 and 1 in ``label``. The batch must also hold ``case``,
    ``patient`` and ``index`` (the slice's number in the whole data set, the same in every process).

    At the end of the epoch ``engine.state.metrics`` has the scalars of `SegmentationResult`, NaN where not computable,
    and ``engine.state.metric_details["segmentation"]`` the whole result. Neither the batch size nor the number of
    processes changes them. ``dice`` is the mean over the slices with a mask; those without are counted.

    Args:
        loss: called as ``loss(logits (1, 1, Y, X), mask (1, 1, Y, X))`` for each slice by itself, with the whole dict
            where the output is one; ``loss`` is the mean over the slices.
        key: the scalar that goes under the name this metric is attached with.
        threshold: probability from which a pixel is predicted to be in the mask, within 0..1.

    Example:
        >>> SupervisedEvaluator(..., key_val_metric={"dice": SegmentationCases(DiceLoss(sigmoid=True))})
    """

    needed = ("pred", "label", "case", "patient", "index")

    def __init__(
        self,
        loss: Callable[[Any, torch.Tensor], torch.Tensor] | None = None,
        key: str = "dice",
        threshold: float = 0.5,
    ) -> None:
        known = [*SegmentationResult([]).metrics, *(["loss"] if loss is not None else [])]
        if key not in known:
            raise ConfigError(f"SegmentationCases: key must be one of {known}, got {key!r}")
        if not 0 < threshold < 1:
            raise ConfigError(f"SegmentationCases: threshold must lie between 0 and 1, got {threshold!r}")
        self.loss = loss
        self.key = key
        self.threshold = threshold
        super().__init__()

    def record(self, item: Mapping[str, Any]) -> SliceRecord:
        """Loss and pixels of a slice, computed where its tensors are.

        Raises:
            DataError: when prediction and mask aren't tensors of the same shape (1, Y, X).
        """
        pred, mask = item["pred"], item["label"]
        logits = pred["cord"] if isinstance(pred, Mapping) else pred
        shapes = [list(each.shape) if torch.is_tensor(each) else type(each).__name__ for each in (logits, mask)]
        if shapes[0] != shapes[1] or len(shapes[0]) != 3 or shapes[0][0] != 1:
            raise DataError(
                f"SegmentationCases: expected pred and label of the same shape (1, Y, X) for case {item['case']}, "
                f"got {shapes[0]} and {shapes[1]}"
            )
        # a batch of one; half precision would round probabilities to the threshold
        logits, mask = logits[None].float(), mask[None].float()
        whole = {name: each[None].float() for name, each in pred.items()} if isinstance(pred, Mapping) else logits
        predicted, true = torch.sigmoid(logits) >= self.threshold, mask > 0.5
        hits, alarms, _, misses = get_confusion_matrix(predicted.float(), true.float()).flatten().tolist()
        unknown = 0.0 if torch.isfinite(logits).all() else float("nan")
        return SliceRecord(
            number=int(item["index"]),
            name=str(item["case"]),
            patient=str(item["patient"]),
            loss=None if self.loss is None else float(self.loss(whole, mask)),
            overlap=hits + unknown,
            predicted=hits + alarms + unknown,
            true=hits + misses,
        )

    def compute(self) -> SegmentationResult:
        """The result over all processes; a collective call.

        Raises:
            DataError: when there are no slices, or when two different ones have the same index.
        """
        return SegmentationResult(self.collected())

    def completed(self, engine: Engine, name: str) -> None:
        result = self.compute()
        engine.state.metrics[name] = self.publish(engine, result.metrics, {"segmentation": result})[self.key]
