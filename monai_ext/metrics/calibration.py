"""Calibration and threshold of a binary classifier, fitted on out-of-fold predictions."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_curve

from monai_ext.arrays import to_numpy
from monai_ext.errors import ConfigError, DataError
from monai_ext.io import read_json

FloatArray = NDArray[np.float64]

# Probabilities of exactly 0 or 1 (float32 softmax saturates) have no finite logit.
_EPS = 1e-7

# From the numbers of true positives, false positives, positives and negatives, as arrays over the thresholds.
_CRITERIA: dict[str, Callable[[FloatArray, FloatArray, int, int], FloatArray]] = {
    "balanced_accuracy": lambda tp, fp, p, n: (tp / p + 1 - fp / n) / 2,
    "accuracy": lambda tp, fp, p, n: (tp + n - fp) / (p + n),
    "f1": lambda tp, fp, p, n: 2 * tp / (tp + fp + p),
}


def fit_platt(scores: ArrayLike, labels: ArrayLike) -> dict[str, float]:
    """Platt scaling: sigmoid(a · logit(p) + b), fitted by maximum likelihood.

    As in Platt (1999), "Probabilistic outputs for support vector machines", the targets are (n₊+1)/(n₊+2) and
    1/(n₋+2) instead of 1 and 0, so that perfectly separated scores still have a finite fit; each case therefore
    enters the regression as a positive and as a negative, weighted by its target. Difference from the paper: the fit is
    on logits of probabilities instead of margins, so that a = 1, b = 0 changes nothing.

    Args:
        scores: (N,) probabilities of the positive class, 0..1.
        labels: (N,) of 0 and 1.

    Returns:
        ``{"a": slope, "b": intercept}``; a slope of 0 or less gives a warning.

    Raises:
        DataError: for wrong shapes or values, or when one class is missing.
    """
    p, y = _checked(scores, labels, "fit_platt")
    positives, negatives = int(y.sum()), int((1 - y).sum())
    target = np.where(y == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    z = logit(np.clip(p, _EPS, 1 - _EPS))[:, None]
    model = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000)
    model.fit(np.concatenate([z, z]), np.repeat([1, 0], len(y)), sample_weight=np.concatenate([target, 1 - target]))
    a, b = float(model.coef_[0, 0]), float(model.intercept_[0])
    if a <= 0:
        warnings.warn(
            f"fit_platt: the slope is {a:.3g}: higher scores mean fewer positives, and calibration would reverse the "
            "ranking; check the AUC before using it",
            stacklevel=2,
        )
    return {"a": a, "b": b}


def apply_platt(p: ArrayLike, a: float, b: float) -> FloatArray:
    """Calibrated probabilities sigmoid(a · logit(p) + b), float64, of any shape.

    Args:
        p: probabilities in 0..1, of any shape.
        a: slope, see `fit_platt`.
        b: intercept.
    """
    return expit(a * logit(np.clip(to_numpy(p, np.float64), _EPS, 1 - _EPS)) + b)


def calibration_line(scores: ArrayLike, labels: ArrayLike) -> dict[str, float | None]:
    """Calibration slope and intercept and the Brier score of probabilities; 1 and 0 are perfect.

    The slope is that of a logistic regression of the labels on the logits (below 1: too extreme); the intercept is the
    shift of the logits at which the mean probability is the frequency (above 0: probabilities too low). Van Calster et
    al. (2019), "Calibration: the Achilles heel of predictive analytics".

    Args:
        scores: (N,) probabilities of the positive class, 0..1.
        labels: (N,) of 0 and 1.

    Returns:
        ``slope``, ``intercept``, ``brier``; the slope is ``None`` where scores separate the classes perfectly.

    Raises:
        DataError: for wrong shapes or values, or when one class is missing.
    """
    p, y = _checked(scores, labels, "calibration_line")
    z = logit(np.clip(p, _EPS, 1 - _EPS))
    slope = None
    if p[y == 1].min() <= p[y == 0].max() and np.ptp(z) > 0:
        slope = float(LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000).fit(z[:, None], y).coef_[0, 0])
    intercept = brentq(lambda shift: expit(z + shift).sum() - y.sum(), -50, 50)
    return {"slope": slope, "intercept": float(intercept), "brier": float(np.mean((p - y) ** 2))}


def read_calibration(record: str | Path) -> tuple[dict[str, float], float]:
    """Platt scaling (``a`` and ``b`` of `apply_platt`) and threshold of a ``cross_validation.json``.

    Args:
        record: the file.

    Raises:
        ConfigError: for a file without them.
        DataError: for a file that is missing or no JSON.
    """
    content = read_json(record)
    try:
        platt = {name: float(content["calibration"][name]) for name in ("a", "b")}
        return platt, float(content["threshold"])
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"--calibration {record}: has no calibration and threshold") from error


def best_threshold(p: ArrayLike, labels: ArrayLike, criterion: str = "balanced_accuracy") -> float:
    """The threshold t for which "positive when p ≥ t" is best on these cases.

    Candidates are the midpoints of neighbouring scores, and 0.5; the nearest to 0.5 wins a tie.

    Args:
        p: (N,) probabilities of the positive class, 0..1.
        labels: (N,) of 0 and 1.
        criterion: the score to maximise: ``"balanced_accuracy"``, ``"accuracy"`` or ``"f1"``.

    Raises:
        DataError: for wrong shapes or values, or when one class is missing.
        ValueError: for an unknown criterion.
    """
    if criterion not in _CRITERIA:
        raise ValueError(f"best_threshold: criterion must be one of {sorted(_CRITERIA)}, got {criterion!r}")
    scores, y = _checked(p, labels, "best_threshold")
    positives, negatives = int(y.sum()), int((1 - y).sum())
    fpr, tpr, reached = roc_curve(y, scores, drop_intermediate=False)
    # roc_curve's thresholds are the scores themselves (the first one infinite), highest first.
    candidates = np.append((reached[1:-1] + reached[2:]) / 2, 0.5)
    point = np.searchsorted(-reached, -candidates, side="right") - 1
    value = _CRITERIA[criterion](tpr[point] * positives, fpr[point] * negatives, positives, negatives)
    best = candidates[np.isclose(value, value.max(), rtol=0, atol=1e-12)]
    return float(best[np.argmin(np.abs(best - 0.5))])


def _checked(scores: ArrayLike, labels: ArrayLike, who: str) -> tuple[FloatArray, NDArray[np.int64]]:
    p, y = to_numpy(scores, np.float64), to_numpy(labels).astype(np.int64)
    if p.ndim != 1 or p.shape != y.shape:
        raise DataError(f"{who}: expected scores (N,) and labels (N,), got {p.shape} and {y.shape}")
    # The comparison is false for NaN.
    if not ((p >= 0) & (p <= 1)).all():
        raise DataError(f"{who}: scores must be probabilities in 0..1")
    if set(np.unique(y).tolist()) != {0, 1}:
        raise DataError(f"{who}: needs cases of both classes, labelled 0 and 1; got {np.unique(y).tolist()}")
    return p, y
