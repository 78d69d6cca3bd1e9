"""Scores of weighted rows, many sets of weights at once; a bootstrap's weights say how often each row was drawn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


class Ranking:
    """Entries by falling score, tied ones together.

    Args:
        scores: (N,), finite.
        truth: (N,) bool.
        rows: (N,) the row whose weight each entry has.
    """

    def __init__(self, scores: FloatArray, truth: BoolArray, rows: NDArray[np.int64]) -> None:
        order = np.argsort(-scores, kind="stable")
        self.rows = rows[order]
        self.truth = truth[order]
        self.ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))

    def areas(self, weights: FloatArray) -> FloatArray:
        """Area under the ROC curve and average precision, (2, R)."""
        drawn = weights[:, self.rows]
        found = np.cumsum(drawn * self.truth, axis=1)[:, self.ends]
        total = np.cumsum(drawn, axis=1)[:, self.ends]
        steps = np.diff(found, axis=1, prepend=0)
        false_steps = np.diff(total, axis=1, prepend=0) - steps
        positives, negatives = found[:, -1], total[:, -1] - found[:, -1]
        # Tied pairs count half.
        auroc = ratio((false_steps * (found - steps / 2)).sum(axis=1), positives * negatives)
        precision = ratio((steps * ratio(found, total, 0.0)).sum(axis=1), positives)
        return np.stack([auroc, np.where(negatives > 0, precision, np.nan)])


def precision_recall_f1(hits: FloatArray, false: FloatArray, missed: FloatArray) -> dict[str, FloatArray]:
    """Of the shape of the sums given; the precision of a class that is never predicted is 0, as in scikit-learn."""
    return {
        "precision": ratio(hits, hits + false, 0.0),
        "recall": ratio(hits, hits + missed, 0.0),
        "f1": ratio(2 * hits, 2 * hits + false + missed, 0.0),
    }


def ratio(above: FloatArray, below: FloatArray, otherwise: float = np.nan) -> FloatArray:
    """``above / below``, and ``otherwise`` where ``below`` is 0."""
    return np.divide(above, below, out=np.full(np.shape(above), otherwise), where=below > 0)
