"""Calibration and threshold of a cross-validation, each fold's from the other folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monai_ext.arrays import to_numpy
from monai_ext.metrics.bootstrap import classification_intervals
from monai_ext.metrics.calibration import FloatArray, apply_platt, best_threshold, calibration_line, fit_platt
from monai_ext.metrics.classification import classification_metrics
from monai_ext.metrics.intervals import interval_entries

CHOSEN_ON = "the other folds"
# Of decisions without ranks: the area under the curve needs no threshold.
_DECIDED = ("precision", "recall", "f1")


class CrossFitted:
    """Calibrated probabilities and decisions of cases that had no part in the calibration and the threshold.

    Platt scaling and the threshold with the best balanced accuracy are fitted on the out-of-fold predictions of all
    other folds and applied to the fold left out. Measured on the cases that they were fitted on, both look better than
    they are.

    Args:
        scores: (N,) out-of-fold probabilities of the positive class, 0..1.
        labels: (N,) of 0 and 1.
        folds: (N,) fold of each case; two or more, and the others of each have both classes.

    Attributes:
        calibrated: (N,) probabilities.
        predicted: (N,) bool, at the fold's threshold.
        folds: fold, ``a``, ``b`` (see `apply_platt`) and ``threshold`` of each.

    Raises:
        DataError: when the other folds of one have cases of one class only.
    """

    def __init__(self, scores: ArrayLike, labels: ArrayLike, folds: Sequence[Any]) -> None:
        p, self.labels = to_numpy(scores, np.float64), to_numpy(labels).astype(np.int64)
        of_case = np.array([str(fold) for fold in folds])
        self.calibrated: FloatArray = np.empty_like(p)
        self.predicted: NDArray[np.bool_] = np.zeros(len(p), dtype=np.bool_)
        self.folds: list[dict[str, Any]] = []
        for fold in dict.fromkeys(folds):
            own = of_case == str(fold)
            platt = fit_platt(p[~own], self.labels[~own])
            threshold = best_threshold(apply_platt(p[~own], **platt), self.labels[~own])
            self.calibrated[own] = apply_platt(p[own], **platt)
            self.predicted[own] = self.calibrated[own] >= threshold
            self.folds.append({"fold": fold, **platt, "threshold": threshold})

    def record(self, class_names: Sequence[str], columns: Mapping[str, Sequence[Any]], unit: str) -> dict[str, Any]:
        """What is reported: metrics of the decisions with intervals, and how well the probabilities are calibrated.

        Args:
            class_names: the other class, then the positive one.
            columns: see `classification_metrics`; ``patient`` names the patients.
            unit: name of the cases.
        """
        decided = np.stack([~self.predicted, self.predicted], axis=1).astype(np.float64)
        result = classification_metrics(decided, self.labels, class_names, columns=columns)
        intervals = classification_intervals(result, unit)
        of_classes = {f"{m}/{name}": found[m] for name, found in result.per_class.items() for m in _DECIDED}
        metrics = {"accuracy": result.metrics["accuracy"], **of_classes}
        return {
            "thresholds_chosen_on": CHOSEN_ON,
            "folds": self.folds,
            "metrics": metrics,
            **interval_entries({name: intervals[name] for name in metrics if name in intervals}),
            "calibration": calibration_line(self.calibrated, self.labels),
        }
