"""Two runs or cross-validations on the same cases: do they differ?"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from monai_ext.errors import ConfigError, DataError
from monai_ext.metrics.paired import PairedDifference, paired_differences
from monai_ext.metrics.rows import part_of_result, rows_of
from monai_ext.predictions.classification import Classification
from monai_ext.predictions.kind import Predictions
from monai_ext.reports.cross_validation import is_cross_validation
from monai_ext.reports.run_folder import read_object, read_predictions, read_run

logger = logging.getLogger("monai_ext")


class Judged(NamedTuple):
    """Predictions of the cases of a run, or of all folds of a cross-validation.

    Args:
        kind: class of the predictions.
        result: of the prediction file, see `Predictions.read`.
        unit: name of the cases.
    """

    kind: type[Predictions]
    result: Any
    unit: str


def read_judged(folder: str | Path) -> Judged:
    """Read the predictions of a run or a cross-validation.

    Args:
        folder: of the run or the cross-validation.

    Raises:
        DataError: when it is neither, or its predictions can't be read.
    """
    path, problems = Path(folder), list[str]()
    if not path.is_dir():
        raise DataError("is not a folder; give the folder of a run or of a cross-validation", path)
    if is_cross_validation(path):
        content = read_object(path / "cross_validation.json", problems)
        table = path / "out_of_fold.csv"
        result = read_predictions(Classification, table, {"class_names": content.get("class_names")}, problems)
        judged = Judged(Classification, result, str(content.get("cases") or "cases"))
    else:
        run = read_run(path)
        judged, problems = Judged(run.kind, run.result, run.cases or "cases"), run.problems
    if judged.result is None:
        raise DataError("; ".join(problems) or "has no predictions", path)
    return judged


def compare_folders(first: str | Path, second: str | Path) -> dict[str, PairedDifference]:
    """The differences of the metrics of two runs or cross-validations, see `paired_differences`.

    Args:
        first: folder of a run or cross-validation.
        second: folder of another one, which predicts the same cases.

    Raises:
        ConfigError: for predictions of different kinds, or kinds that can't be compared case by case.
        DataError: for predictions that can't be read, other cases, or other labels of a case.
    """
    one, other = read_judged(first), read_judged(second)
    if one.kind is not other.kind or getattr(one.result, "class_names", None) != getattr(
        other.result, "class_names", None
    ):
        raise ConfigError(f"compare: {first} and {second} don't predict the same classes, so they can't be compared")
    rows, others = rows_of(one.result, one.unit), rows_of(other.result, other.unit)
    missing = set(rows.names) ^ set(others.names)
    if missing:
        raise DataError(
            f"compare: {first} and {second} don't hold the same cases ({len(missing)} are in one only, such as "
            f"{min(missing)!r}); compare runs of the same fold, or cross-validations of the same data"
        )
    # in the order of the first
    place = {name: number for number, name in enumerate(others.names)}
    matched = rows_of(part_of_result(other.result, [place[name] for name in rows.names]), other.unit)
    for name, label, another in zip(rows.names, rows.labels, matched.labels, strict=True):
        if label != another:
            raise DataError(f"compare: case {name!r} is {label} in {first} and {another} in {second}")
    if rows.units.name != "patients":
        logger.warning(
            "%s and %s name no patients: each of their %s counts on its own, so that intervals and p are too small "
            "where several are of one patient",
            *(first, second, rows.units.name),
        )
    return paired_differences(rows, matched)


def difference_rows(found: Mapping[str, PairedDifference]) -> list[dict[str, Any]]:
    """A row for each metric, for a table or a CSV file."""
    return [
        {
            "metric": name,
            "first": each.first,
            "second": each.second,
            "difference": each.second - each.first,
            "low": None if each.ends is None else each.ends[0],
            "high": None if each.ends is None else each.ends[1],
            "p": each.p,
            "method": each.method,
            "n": f"{each.n} {each.unit}",
            "not estimable": each.reason,
        }
        for name, each in found.items()
    ]


def known_metric(found: Mapping[str, PairedDifference], metric: str | None) -> dict[str, PairedDifference]:
    """The wanted metric alone; all without a name.

    Args:
        found: by name.
        metric: name, or ``None``.

    Raises:
        ConfigError: for a metric that they don't have.
    """
    if metric is None:
        return dict(found)
    if metric not in found:
        raise ConfigError(f"--metric {metric}: the two have {', '.join(found)}")
    return {metric: found[metric]}
