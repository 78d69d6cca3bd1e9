"""Old names of what `monai_ext.predictions` gives, with their old arguments; they go with the next version.

They are functions now, so that ``isinstance`` has to ask for the new classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike
from sklearn.calibration import calibration_curve

from monai_ext.handlers.write_predictions import WritePredictions
from monai_ext.metrics.multi_target import MultiTargetResult
from monai_ext.predictions.classification import Classification
from monai_ext.predictions.masks import Masks
from monai_ext.predictions.multi_label import MultiLabel
from monai_ext.predictions.patches import Patches
from monai_ext.targets import Definition


def ClassificationCases(
    class_names: Sequence[str],
    loss: Any = None,
    key: str = "auc",
    positive: str | None = None,
    parts: str | None = None,
    part_columns: Sequence[str] = (),
) -> Classification:
    return Classification(class_names, loss, key, positive, _cases(parts), parts, part_columns)


def ClassificationOutputs(
    class_names: Sequence[str], cases: str | None = None, parts: str | None = None
) -> Classification:
    return Classification(class_names, cases=cases, instances=parts)


def HeadCases(class_names: Sequence[str], loss: Any = None, key: str = "auc") -> Classification:
    return Classification(class_names, loss, key, heads=True)


def HeadOutputs(class_names: Sequence[str]) -> Classification:
    return Classification(class_names, heads=True)


def MultiLabelCases(
    class_names: Sequence[str],
    loss: Any = None,
    key: str = "auroc",
    thresholds: Sequence[float] | None = None,
    parts: str | None = None,
    part_columns: Sequence[str] = (),
    merge: str = "mean",
) -> MultiLabel:
    return MultiLabel(class_names, loss, key, thresholds, _cases(parts), parts, part_columns, merge)


def MultiLabelOutputs(class_names: Sequence[str], cases: str | None = None, parts: str | None = None) -> MultiLabel:
    return MultiLabel(class_names, cases=cases, instances=parts)


def SegmentationCases(loss: Any = None, key: str = "dice", threshold: float = 0.5) -> Masks:
    return Masks(loss, key, threshold)


def SegmentationOutputs(name: str = "lesion") -> Masks:
    return Masks(name=name)


def MultiTargetPatches(
    targets: Mapping[str, Definition], loss: Any = None, key: str = "loss", ignore_label: float | None = None
) -> Patches:
    return Patches(targets, loss, key, ignore_label)


def TargetOutputs(targets: Mapping[str, Definition]) -> Patches:
    # what is only kept needs no loss, and any metric for a key
    return Patches(targets, key=next(iter(MultiTargetResult(targets, []).metrics)))


def PredictionWriter(
    output_dir: str | Path,
    class_names: Sequence[str],
    calibration: str | Path | None = None,
    threshold: float | None = None,
    cases: str | None = None,
    parts: str | None = None,
    part_columns: Sequence[str] = (),
) -> WritePredictions:
    """Its items need an ``index`` now."""
    predictions = Classification(
        class_names,
        cases=cases,
        instances=parts,
        instance_columns=part_columns,
        logits=False,
        calibration=calibration,
        threshold=threshold,
    )
    return WritePredictions(predictions, output_dir)


def MultiLabelWriter(
    output_dir: str | Path,
    class_names: Sequence[str],
    thresholds: Sequence[float] | None = None,
    cases: str | None = "volumes",
    parts: str | None = "slices",
    part_columns: Sequence[str] = ("slice",),
    merge: str = "mean",
) -> WritePredictions:
    predictions = MultiLabel(
        class_names,
        thresholds=thresholds,
        cases=cases,
        instances=parts,
        instance_columns=part_columns if parts is not None else (),
        merge=merge,
        logits=False,
    )
    return WritePredictions(predictions, output_dir)


def reliability_curve(p: ArrayLike, labels: ArrayLike, bins: int = 10) -> tuple[Any, Any]:
    observed, predicted = calibration_curve(labels, p, n_bins=bins)
    return predicted, observed


def _cases(parts: str | None) -> str | None:
    return None if parts is None else "cases"
