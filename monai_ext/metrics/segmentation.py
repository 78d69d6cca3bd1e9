"""Metrics of one mask per slice: overlap by slice, over all pixels, and by patient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from monai_ext.metrics.bootstrap import check_arguments
from monai_ext.metrics.classification import FloatArray
from monai_ext.metrics.intervals import Interval, Units, percentile, too_few


@dataclass
class SliceRecord:
    """Contribution of one slice to the metrics.

    Args:
        number: index in the dataset.
        name: of the slice.
        patient: name of the patient.
        loss: of this slice alone; ``None`` without a loss.
        overlap: pixels in both masks; NaN where the network's output isn't finite.
        predicted: pixels in the predicted mask; NaN where the network's output isn't finite.
        true: pixels in the true mask.
    """

    number: int
    name: str
    patient: str
    loss: float | None
    overlap: float
    predicted: float
    true: float

    @property
    def identity(self) -> tuple[Any, ...]:
        return self.name, self.patient, self.true

    @property
    def is_finite(self) -> bool:
        """Whether the network's output was finite."""
        return math.isfinite(self.predicted)

    @property
    def is_false_alarm(self) -> bool:
        """Whether pixels are predicted in a slice without a mask."""
        return self.true == 0 and self.predicted > 0


@dataclass
class SegmentationResult:
    """All slices of a validation, and their metrics.

    A slice without a mask has Dice 1 when nothing is predicted there and 0 otherwise, which is not informative about
    the quality of masks. The means therefore leave such slices out (else many of them would make any network look
    good), and they are counted instead; the pixels of false alarms count in all metrics that are pooled over pixels.

    Args:
        slices: records of all slices.

    Attributes:
        metrics: ``None`` where not computable:

            - ``loss``, where there is one: mean over all slices,
            - ``dice``: mean over the slices with a mask,
            - ``iou``, ``precision``, ``recall``, ``pooled_dice``: over all pixels of all slices together,
            - ``patient_dice``: mean over the patients with a mask of the Dice of all their pixels,
            - ``empty_slices``: number of slices without a mask, ``false_positive_slices``: number of those with
              predicted pixels.
        skipped: one sentence for each metric that could not be computed, and for slices that were left out.
    """

    slices: Sequence[SliceRecord]
    metrics: dict[str, float | None] = field(init=False)
    skipped: list[str] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        found = {name: float(value[0]) for name, value in self.scores(np.ones((1, len(self.patients)))).items()}
        losses = [each.loss for each in self.slices if each.loss is not None]
        if losses:
            found = {"loss": sum(losses) / len(losses), **found}
        self.metrics = {name: number_or_none(value) for name, value in found.items()}
        self.metrics["empty_slices"] = sum(each.true == 0 for each in self.slices)
        self.metrics["false_positive_slices"] = sum(each.is_false_alarm for each in self.slices)
        self.skipped = self._explain()

    @property
    def patients(self) -> list[str]:
        """Names of the patients, in the order of their first slices."""
        return list(dict.fromkeys(each.patient for each in self.slices))

    def scores(self, counts: FloatArray) -> dict[str, FloatArray]:
        """The metrics in 0..1 of resampled patients.

        Args:
            counts: (n, patients), number of times each of `patients` is drawn; all 1 for the original data.

        Returns:
            metric → (n,), NaN where not computable.
        """
        total = dict(zip(_SUMS, (counts @ self._patient_sums()).T, strict=True))
        ratios = {
            "dice": (total["slice_dice"], total["masked_slices"]),
            "iou": (total["overlap"], total["predicted"] + total["true"] - total["overlap"]),
            "precision": (total["overlap"], total["predicted"]),
            "recall": (total["overlap"], total["true"]),
            "pooled_dice": (2 * total["overlap"], total["predicted"] + total["true"]),
            "patient_dice": (total["patient_dice"], total["masked_patients"]),
        }
        with np.errstate(invalid="ignore"):  # 0 / 0 is NaN, as it should be
            return {name: above / below for name, (above, below) in ratios.items()}

    def rows(self) -> list[dict[str, Any]]:
        """One row per slice, in the order of the dataset."""
        return [
            {
                "case": each.name,
                "patient": each.patient,
                **_overlap_scores([each]),
                "loss": number_or_none(each.loss),
                **_pixels([each]),
            }
            for each in self.slices
        ]

    def patient_rows(self) -> list[dict[str, Any]]:
        """One row per patient: number of slices, scores over all their pixels, pixel counts."""
        return [
            {
                "patient": name,
                "slices": len(found),
                "empty_slices": sum(each.true == 0 for each in found),
                "false_positive_slices": sum(each.is_false_alarm for each in found),
                **_overlap_scores(found),
                **_pixels(found),
            }
            for name, found in self._by_patient().items()
        ]

    def _by_patient(self) -> dict[str, list[SliceRecord]]:
        found: dict[str, list[SliceRecord]] = {}
        for each in self.slices:
            found.setdefault(each.patient, []).append(each)
        return found

    def _patient_sums(self) -> FloatArray:
        """(patients, `_SUMS`): numbers that add up over patients."""
        rows = []
        for found in self._by_patient().values():
            masked = [each for each in found if each.true > 0]
            overlap, predicted, true = (sum(getattr(each, name) for each in found) for name in _SUMS[:3])
            slice_dice = sum(dice(each.overlap, each.predicted, each.true) for each in masked)
            patient_dice = dice(overlap, predicted, true) if masked else 0.0
            rows.append([overlap, predicted, true, slice_dice, len(masked), patient_dice, bool(masked)])
        return np.array(rows, dtype=np.float64).reshape(-1, len(_SUMS))

    def _explain(self) -> list[str]:
        broken = [each.name for each in self.slices if not each.is_finite]
        if broken:
            return [f"all metrics: the network's output isn't finite on {len(broken)} slices, such as {broken[0]}"]
        reasons = {
            **dict.fromkeys(("dice", "patient_dice", "recall"), "no slice has a mask"),
            **dict.fromkeys(("iou", "pooled_dice"), "no slice has a mask, and nothing was predicted"),
            "precision": "nothing was predicted",
        }
        lines = [f"{name}: {reason}" for name, reason in reasons.items() if self.metrics[name] is None]
        empty, alarms = (int(self.metrics[name] or 0) for name in ("empty_slices", "false_positive_slices"))
        if 0 < empty < len(self.slices):
            note = f"dice: {empty} of {len(self.slices)} slices have no mask and don't count in the mean; "
            lines.append(f"{note}something was predicted on {alarms} of them")
        return lines


# The sums over patients; the first three are attributes of the records.
_SUMS = ("overlap", "predicted", "true", "slice_dice", "masked_slices", "patient_dice", "masked_patients")


def segmentation_intervals(
    result: SegmentationResult, level: float = 0.95, n: int = 1000, seed: int = 0
) -> dict[str, Interval]:
    """Percentile intervals of every metric in 0..1, by a bootstrap over patients, because slices of one are similar.

    They are not estimable for fewer than ten patients with a mask, or where resamples don't vary.

    Args:
        result: of a validation.
        level: coverage, between 0 and 1.
        n: number of resamples, at least 1.
        seed: of the resampling, at least 0.

    Returns:
        by name of the metric, without metrics that aren't computable.

    Raises:
        ValueError: for a level or number of resamples out of range.
    """
    check_arguments(level, n)
    total = len(result.patients)
    if not total:
        return {}
    units = Units(np.arange(total), "patients")
    masked = len({each.patient for each in result.slices if each.true > 0})
    few = too_few({"with a mask": masked}, units.name)
    counts = np.random.default_rng(seed).multinomial(total, np.full(total, 1 / total), size=n)
    return {
        name: percentile(values, units, few, level)
        for name, values in result.scores(counts.astype(np.float64)).items()
        if result.metrics[name] is not None
    }


def dice(overlap: float, predicted: float, true: float) -> float:
    """Twice the overlap over the sum of both; 1 where neither mask has a pixel."""
    return 2 * overlap / (predicted + true) if predicted + true != 0 else 1.0


def number_or_none(value: float | None) -> float | None:
    """The value, or ``None`` where it isn't finite."""
    return value if value is not None and math.isfinite(value) else None


def _overlap_scores(slices: Sequence[SliceRecord]) -> dict[str, float | None]:
    """Dice and intersection over union of all pixels of some slices."""
    overlap, predicted, true = (sum(getattr(each, name) for each in slices) for name in _SUMS[:3])
    found = dice(overlap, predicted, true)
    return {"dice": number_or_none(found), "iou": number_or_none(found / (2 - found))}


def _pixels(slices: Sequence[SliceRecord]) -> dict[str, int | None]:
    sums = {
        "true_pixels": sum(each.true for each in slices),
        "predicted_pixels": sum(each.predicted for each in slices),
        "overlap_pixels": sum(each.overlap for each in slices),
    }
    return {name: int(value) if math.isfinite(value) else None for name, value in sums.items()}
