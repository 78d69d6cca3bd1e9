"""Multi-label scores with a weight for each row, for many sets of weights at once, as a bootstrap needs them.

A resample is a vector with the number of times each row was drawn. Ranks are computed once, and no resample is ever
built, which gives the results of scikit-learn sooner.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from monai_ext.metrics.weighted import BoolArray, FloatArray, Ranking, precision_recall_f1, ratio

RANKED = ("auroc", "average_precision")
DECIDED = ("f1", "precision", "recall", "accuracy")
TUNED = "_tuned"


def class_score_names(tuned: bool) -> list[str]:
    """Scores of a class; ``tuned`` adds those at its own threshold."""
    return [*RANKED, *DECIDED, *((f"{name}{TUNED}" for name in DECIDED) if tuned else ())]


def overall_score_names(tuned: bool) -> list[str]:
    """Scores of all classes together; ``tuned`` adds those at their own thresholds."""
    decided = [*DECIDED, "f1_micro", "precision_micro", "recall_micro", "hamming", "exact_match"]
    ranked = [*RANKED, *(f"{name}_micro" for name in RANKED)]
    return [*ranked, *decided, *((f"{name}{TUNED}" for name in decided) if tuned else ())]


class LabelScores:
    """Multi-label scores of N rows and C classes for any weights of the rows.

    A class is scored where positives and negatives of it have weight; macro averages run over these classes. What is
    pooled over all entries (micro averages, hamming, exact match) leaves out the classes of which all rows have the
    same label: a network that says no to everything would be right on each of them.

    Args:
        probabilities: (N, C), finite.
        labels: (N, C) bool.
        thresholds: of each class, for the scores with the suffix ``_tuned``; ``None`` for none of these.
    """

    def __init__(self, probabilities: FloatArray, labels: BoolArray, thresholds: Sequence[float] | None = None) -> None:
        rows, classes = labels.shape
        self.labels = labels
        self.scored = labels.any(axis=0) & ~labels.all(axis=0)
        self.cuts = {"": probabilities >= 0.5}
        if thresholds is not None:
            self.cuts[TUNED] = probabilities >= np.asarray(thresholds)
        number = np.arange(rows)
        self.rankings = [Ranking(probabilities[:, c], labels[:, c], number) for c in range(classes)]
        scores, truth = probabilities[:, self.scored].ravel(), labels[:, self.scored].ravel()
        self.micro_ranking = Ranking(scores, truth, np.repeat(number, self.scored.sum()))

    def __call__(self, weights: FloatArray) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
        """Scores for R sets of weights.

        Args:
            weights: (R, N), ≥ 0.

        Returns:
            For each of `class_score_names` (R, C), for each of `overall_score_names` (R,); NaN where not computable.
        """
        areas = np.stack([ranking.areas(weights) for ranking in self.rankings], axis=-1)
        by_class = dict(zip(RANKED, areas, strict=True))
        nothing = np.full((2, len(weights)), np.nan)
        pooled = self.micro_ranking.areas(weights) if self.scored.any() else nothing
        overall = dict(zip([f"{name}_micro" for name in RANKED], pooled, strict=True))
        for suffix, predicted in self.cuts.items():
            for name, values in self._decided(predicted, weights).items():
                (by_class if name in DECIDED else overall)[name + suffix] = values
        two_sided = np.isfinite(areas[0])
        by_class = {name: np.where(two_sided, values, np.nan) for name, values in by_class.items()}
        for name, values in by_class.items():
            overall[name] = ratio(np.nansum(values, axis=1), two_sided.sum(axis=1))
        return by_class, {name: overall[name] for name in overall_score_names(TUNED in self.cuts)}

    def _decided(self, predicted: BoolArray, weights: FloatArray) -> dict[str, FloatArray]:
        hits = weights @ (predicted & self.labels)
        false = weights @ (predicted & ~self.labels)
        missed = weights @ (~predicted & self.labels)
        total = weights.sum(axis=1)
        entries = total * self.scored.sum()
        everywhere = [count[:, self.scored].sum(axis=1) for count in (hits, false, missed)]
        right = (predicted == self.labels)[:, self.scored].all(axis=1)
        pooled = {
            **{f"{name}_micro": values for name, values in precision_recall_f1(*everywhere).items()},
            "hamming": ratio(everywhere[1] + everywhere[2], entries),
            "exact_match": weights @ right / total,
        }
        return {
            **precision_recall_f1(hits, false, missed),
            "accuracy": 1 - (false + missed) / total[:, None],
            **{name: np.where(entries > 0, values, np.nan) for name, values in pooled.items()},
        }
