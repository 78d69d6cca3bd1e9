"""The results of all kinds of tasks as rows that can be resampled, matched and grouped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial, singledispatch
from typing import Any, NamedTuple

import numpy as np

from monai_ext.errors import ConfigError
from monai_ext.metrics.bootstrap import classification_intervals
from monai_ext.metrics.classification import (
    ClassificationResult,
    FloatArray,
    IntArray,
    classification_metrics,
    scalar_metrics,
)
from monai_ext.metrics.intervals import Interval, Units, units_of
from monai_ext.metrics.multi_label import MultiLabelResult, multi_label_metrics
from monai_ext.metrics.multi_label_bootstrap import multi_label_intervals
from monai_ext.metrics.multi_label_scores import LabelScores
from monai_ext.metrics.segmentation import SegmentationResult, segmentation_intervals


class Rows(NamedTuple):
    """The cases of one network's result, in a form that can be resampled.

    Args:
        names: of the rows: cases, or patients where their parts are pooled.
        units: what is independent.
        strata: (N,) classes within which units are drawn; all 0 for none.
        sizes: number of units of each kind that must be frequent enough, see `too_few`.
        metrics: (R, N) how often each row is in each resample → metric → (R,), NaN where not computable.
        scores: (N,) of the positive class, where there is an area under one curve, else ``None``.
        labels: comparable labels of the rows, which must be the same for both networks.
    """

    names: list[str]
    units: Units
    strata: IntArray
    sizes: Mapping[str, int]
    metrics: Callable[[FloatArray], dict[str, FloatArray]]
    scores: FloatArray | None
    labels: Sequence[object]


@singledispatch
def rows_of(result: Any, unit: str) -> Rows:
    """The cases of a result, of masks the patients.

    Args:
        result: of a classification, multi-label classification or segmentation.
        unit: name of the cases.

    Raises:
        ConfigError: for a result without independent cases.
    """
    raise ConfigError("patches overlap, so that they can neither be compared nor grouped")


@singledispatch
def part_of_result(result: Any, numbers: Sequence[int]) -> Any:
    """The result of some of its rows, see `rows_of`, in the order given."""
    raise NotImplementedError


@singledispatch
def intervals_of(result: Any, unit: str) -> dict[str, Interval]:
    """Confidence intervals of a result's metrics by name.

    Args:
        result: see `rows_of`.
        unit: name of the cases.
    """
    raise NotImplementedError


@rows_of.register
def _(result: ClassificationResult, unit: str) -> Rows:
    units, names = units_of(result, unit), result.class_names
    return Rows(
        [str(case) for case in result.cases],
        units,
        result.labels,
        {f"of class {names[index]}": units.among(result.labels == index) for index in np.unique(result.labels)},
        partial(scalar_metrics, result.probabilities, result.labels),
        result.probabilities[:, 1] if len(names) == 2 else None,
        [names[label] for label in result.labels],
    )


@rows_of.register
def _(result: MultiLabelResult, unit: str) -> Rows:
    units = units_of(result, unit)
    scores = LabelScores(result.probabilities, result.labels, result.thresholds)
    strata, labels = np.zeros(len(result.labels), np.int64), [tuple(row) for row in result.labels.tolist()]
    sizes = {"": units.total}
    return Rows([str(case) for case in result.cases], units, strata, sizes, lambda n: scores(n)[1], None, labels)


@rows_of.register
def _(result: SegmentationResult, unit: str) -> Rows:
    patients = result.patients
    pixels = dict.fromkeys(patients, 0.0)
    for each in result.slices:
        pixels[each.patient] += each.true
    units = Units(np.arange(len(patients)), "patients")
    sizes = {"with a mask": sum(count > 0 for count in pixels.values())}
    return Rows(patients, units, np.zeros(len(patients), np.int64), sizes, result.scores, None, [*pixels.values()])


@part_of_result.register
def _(result: ClassificationResult, numbers: Sequence[int]) -> ClassificationResult:
    columns = {name: [values[number] for number in numbers] for name, values in result.columns.items()}
    probabilities, labels = result.probabilities[list(numbers)], result.labels[list(numbers)]
    cases = [result.cases[number] for number in numbers]
    return classification_metrics(probabilities, labels, result.class_names, cases=cases, columns=columns)


@part_of_result.register
def _(result: MultiLabelResult, numbers: Sequence[int]) -> MultiLabelResult:
    columns = {name: [values[number] for number in numbers] for name, values in result.columns.items()}
    probabilities, labels = result.probabilities[list(numbers)], result.labels[list(numbers)]
    cases = [result.cases[number] for number in numbers]
    return multi_label_metrics(probabilities, labels, result.class_names, result.thresholds, cases, columns)


@part_of_result.register
def _(result: SegmentationResult, numbers: Sequence[int]) -> SegmentationResult:
    patients = [result.patients[number] for number in numbers]
    return SegmentationResult([each for name in patients for each in result.slices if each.patient == name])


@intervals_of.register
def _(result: ClassificationResult, unit: str) -> dict[str, Interval]:
    return classification_intervals(result, unit)


@intervals_of.register
def _(result: MultiLabelResult, unit: str) -> dict[str, Interval]:
    return multi_label_intervals(result, unit)


@intervals_of.register
def _(result: SegmentationResult, unit: str) -> dict[str, Interval]:
    return segmentation_intervals(result)
