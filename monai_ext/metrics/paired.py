"""Whether two networks differ on the same cases."""

from __future__ import annotations

from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm, rankdata

from monai_ext.arrays import to_numpy
from monai_ext.metrics.bootstrap import resamples
from monai_ext.metrics.classification import FloatArray, IntArray
from monai_ext.metrics.intervals import percentile, too_few
from monai_ext.metrics.rows import Rows

# Numbers of all resamples that are looked at together.
_ENTRIES = 4_000_000


class PairedDifference(NamedTuple):
    """The difference of a metric, second minus first.

    Args:
        first: value of the first network.
        second: value of the second.
        ends: 95 % confidence interval of the difference; ``None`` where it can't be estimated.
        p: two-sided, of the hypothesis that there is none, not corrected for the number of metrics.
        method: ``"DeLong"`` or ``"paired bootstrap"``.
        unit: what is taken to be independent, such as ``"patients"``.
        n: number of units.
        reason: why there is no interval.
    """

    first: float
    second: float
    ends: tuple[float, float] | None
    p: float | None
    method: str
    unit: str
    n: int
    reason: str | None = None


def delong(first: ArrayLike, second: ArrayLike, labels: ArrayLike) -> tuple[float, float]:
    """Difference of two AUCs on the same independent cases, second minus first, and its standard error.

    DeLong et al. (1988), "Comparing the areas under two or more correlated receiver operating characteristic curves";
    by mid-ranks as in Sun and Xu (2014).

    Args:
        first: (N,) scores of the first network.
        second: (N,) scores of the second.
        labels: (N,) of 0 and 1, two or more of each.
    """
    truth = to_numpy(labels).astype(bool)
    parts = []
    for scores in (to_numpy(first, np.float64), to_numpy(second, np.float64)):
        ranks = rankdata(scores)
        # fraction of the other class that each case is ranked right against, ties half
        above = (ranks[truth] - rankdata(scores[truth])) / (~truth).sum()
        below = 1 - (ranks[~truth] - rankdata(scores[~truth])) / truth.sum()
        parts.append((above, below))
    (above_1, below_1), (above_2, below_2) = parts
    variance = np.var(above_2 - above_1, ddof=1) / truth.sum() + np.var(below_2 - below_1, ddof=1) / (~truth).sum()
    return float(above_2.mean() - above_1.mean()), float(np.sqrt(variance))


def paired_differences(
    first: Rows, second: Rows, level: float = 0.95, n: int = 2000, seed: int = 0
) -> dict[str, PairedDifference]:
    """The difference of each metric, by DeLong for the AUC of independent cases, else by a paired bootstrap.

    Both networks get the same resamples of the patients, drawn within classes where there are some.

    Args:
        first: rows of one network.
        second: the same rows of the other.
        level: coverage, between 0 and 1.
        n: number of resamples.
        seed: of the resampling.

    Returns:
        by name, of the metrics that both have.
    """
    units, few = first.units, too_few(first.sizes, first.units.name)
    once = np.ones((1, len(first.names)))
    values = [{name: float(found[0]) for name, found in rows.metrics(once).items()} for rows in (first, second)]
    names = [name for name in values[0] if np.isfinite([each.get(name, np.nan) for each in values]).all()]
    drawn, parts = resamples(first.strata, units, n, seed), []
    at_once = max(1, _ENTRIES // len(first.names))
    for start in range(0, n, at_once):
        counts = np.array(list(islice(drawn, min(at_once, n - start))), dtype=np.float64)
        one, other = first.metrics(counts), second.metrics(counts)
        parts.append({name: other[name] - one[name] for name in names})
    found = {}
    for name in names:
        resampled = np.concatenate([part[name] for part in parts])
        interval = percentile(resampled, units, few, level)
        p = None
        if interval.ends is not None:
            finite = resampled[np.isfinite(resampled)]
            p = min(1.0, 2 * (min((finite <= 0).sum(), (finite >= 0).sum()) + 1) / (len(finite) + 1))
        pair = values[0][name], values[1][name]
        found[name] = PairedDifference(
            *pair, interval.ends, p, "paired bootstrap", units.name, units.total, interval.reason
        )
    if "auc" in found and first.scores is not None and second.scores is not None and units.are_rows:
        found["auc"] = _by_delong(found["auc"], first.scores, second.scores, first.strata, few, level)
    return found


def _by_delong(
    found: PairedDifference, first: FloatArray, second: FloatArray, labels: IntArray, few: str | None, level: float
) -> PairedDifference:
    found = found._replace(method="DeLong", ends=None, p=None, reason=few)
    if few is not None:
        return found
    difference, error = delong(first, second, labels)
    if error < 1e-9:
        return found._replace(reason="both rank all cases alike")
    half = norm.ppf((1 + level) / 2) * error
    return found._replace(
        ends=(difference - half, difference + half), p=float(2 * norm.sf(abs(difference) / error)), reason=None
    )
