"""Confidence intervals that say how they were made, or why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

# Fewer units of a class: resamples then say more about these few than about the sampling.
LEAST = 10
PATIENT = "patient"


class Interval(NamedTuple):
    """Confidence interval of one metric.

    Args:
        ends: low and high; ``None`` where none can be estimated.
        method: ``"Wilson"`` for proportions of independent cases, ``"bootstrap"`` (percentiles) for all others.
        unit: what is taken to be independent, such as ``"patients"``.
        n: number of units; of a proportion its denominator.
        reason: why there is none.
    """

    ends: tuple[float, float] | None
    method: str
    unit: str
    n: int
    reason: str | None = None


class Units(NamedTuple):
    """What the rows of a result belong to: rows of one patient are not independent.

    Args:
        of_row: (N,) number of each row's unit, from 0.
        name: such as ``"patients"``.
    """

    of_row: NDArray[np.int64]
    name: str

    @property
    def total(self) -> int:
        """Number of units."""
        return int(self.of_row.max()) + 1

    @property
    def are_rows(self) -> bool:
        """Whether each row is a unit of its own, so that rows are independent."""
        return self.total == len(self.of_row)

    def among(self, rows: NDArray[np.bool_]) -> int:
        """Number of units that have one of these rows."""
        return len(np.unique(self.of_row[rows]))


def units_of(result: Any, name: str = "cases") -> Units:
    """The patients of a result's rows where they are known (a column ``patient``), else its cases.

    Args:
        result: with ``cases``, ``columns`` and ``labels``.
        name: of the cases.
    """
    known = PATIENT in result.columns
    names = result.columns[PATIENT] if known else result.cases or range(len(result.labels))
    numbers = {unit: number for number, unit in enumerate(dict.fromkeys(names))}
    return Units(np.array([numbers[unit] for unit in names], np.int64), "patients" if known else name)


def wilson(hits: float, total: float, unit: str, level: float = 0.95) -> Interval:
    """Wilson's interval of a proportion, see `scipy.stats.binomtest`; it has a width even where all are right.

    Args:
        hits: number of successes.
        total: number of independent trials.
        unit: what a trial is.
        level: coverage, between 0 and 1.
    """
    if not total:
        return Interval(None, "Wilson", unit, 0, f"there are no {unit} to count")
    found = binomtest(round(hits), round(total)).proportion_ci(level, method="wilson")
    return Interval((float(found.low), float(found.high)), "Wilson", unit, round(total))


def percentile(values: np.ndarray, units: Units, few: str | None, level: float = 0.95) -> Interval:
    """Percentile interval of a metric over resamples, none where it would pretend to know.

    Args:
        values: (R,) the metric in each resample, NaN where not computable.
        units: what was resampled.
        few: why there are too few units, see `too_few`; ``None`` for enough.
        level: coverage, between 0 and 1.
    """
    finite = values[np.isfinite(values)]
    reason = few
    if reason is None and len(finite) < 0.95 * len(values):
        reason = f"it can't be computed in {len(values) - len(finite)} of {len(values)} resamples"
    if reason is None:
        low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
        if high - low > 1e-9:
            return Interval((float(low), float(high)), "bootstrap", units.name, units.total)
        reason = "the resamples don't vary"
    return Interval(None, "bootstrap", units.name, units.total, reason)


def too_few(counts: Mapping[str, int], unit: str) -> str | None:
    """Why a bootstrap would have too few units, ``None`` where there are enough of each kind.

    Args:
        counts: number of units by what they are, such as ``"of class LGG"``.
        unit: name of the units.
    """
    what = min(counts, key=lambda each: counts[each])
    return f"{unit} {what}".rstrip() + f": {counts[what]}, fewer than {LEAST}" if counts[what] < LEAST else None


def interval_entries(found: Mapping[str, Interval]) -> dict[str, Any]:
    """Entries of ``metrics.json``: ``intervals``, name → [low, high] of those that could be estimated, and
    ``interval_methods``, name → method, unit, n and, for the others, the reason as ``not_estimable``.

    Args:
        found: by name of the metric.
    """
    return {
        "intervals": {name: list(each.ends) for name, each in found.items() if each.ends is not None},
        "interval_methods": {
            name: {
                "method": each.method,
                "unit": each.unit,
                "n": each.n,
                **({} if each.reason is None else {"not_estimable": each.reason}),
            }
            for name, each in found.items()
        },
    }
