"""Predictions of several labels of unseen cases as CSV and JSON."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ignite.distributed as idist
import numpy as np
from ignite.engine import Engine, Events

from monai_ext.arrays import to_numpy
from monai_ext.data.loader import UNKNOWN
from monai_ext.errors import ConfigError, DataError
from monai_ext.handlers.classification_outputs import check_levels
from monai_ext.io import atomic_path, write_csv, write_json
from monai_ext.metrics.cases import gathered
from monai_ext.metrics.parts import MERGES, label_by_case, max_by_case, mean_by_case, part_values

logger = logging.getLogger("monai_ext")


class _Prediction(NamedTuple):
    number: int
    case: str
    columns: dict[str, Any]
    probabilities: np.ndarray
    labels: tuple[str, ...] | None  # names of the classes it is known to have; None for unknown


class MultiLabelWriter:
    """Collects probabilities of several labels from an evaluator and writes CSV files and ``predictions.json``.

    Columns: ``case``, then ``prob_<class>`` and ``pred_<class>`` (0 or 1) for every class, and ``label_<class>`` when
    any label is known. ``predictions.json`` has the classes, their thresholds, and for each case its probabilities by
    name and its ``findings``, the classes whose threshold is reached. All files appear together when all cases of all
    processes are done, or not at all; rows are in the order of the data.

    Where the items are parts of cases, ``predictions_<parts>.csv`` has a row for each, with `part_columns` behind
    ``case``, and ``predictions_<cases>.csv`` the merged probabilities of each case; without parts there is
    ``predictions.csv``. Thresholds are about cases, so parts are decided at 0.5.

    Args:
        output_dir: where they go.
        class_names: C names.
        thresholds: probability of each class from which on it is predicted, such as
            `monai_ext.networks.saved_thresholds`; ``None`` for 0.5.
        cases, parts: what the two levels are called; both or neither.
        part_columns: keys of the items that tell the parts of a case apart.
        merge: a case has the ``"mean"`` of its parts' probabilities, or of each class the ``"max"``.

    Raises:
        ConfigError: for thresholds that aren't C numbers in 0..1, another ``merge``, or only one of the two names.
    """

    def __init__(
        self,
        output_dir: str | Path,
        class_names: Sequence[str],
        thresholds: Sequence[float] | None = None,
        cases: str | None = "volumes",
        parts: str | None = "slices",
        part_columns: Sequence[str] = ("slice",),
        merge: str = "mean",
    ) -> None:
        check_levels("MultiLabelWriter", cases, parts)
        if merge not in MERGES:
            raise ConfigError(f"MultiLabelWriter: merge must be one of {', '.join(MERGES)}, got {merge!r}")
        count = len(class_names)
        if thresholds is not None and (len(thresholds) != count or not all(0 <= value <= 1 for value in thresholds)):
            raise ConfigError(
                f"MultiLabelWriter: thresholds must be {count} numbers in 0..1, one a class, got {thresholds}"
            )
        self.output_dir = Path(output_dir)
        self.class_names = list(class_names)
        self.chosen = thresholds is not None
        self.thresholds = [0.5] * count if thresholds is None else [float(value) for value in thresholds]
        self.cases = cases
        self.parts = parts
        self.part_columns = list(part_columns) if parts is not None else []
        self.merge = merge
        self._predictions: list[_Prediction] = []

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator whose output holds probabilities (C,) in ``pred``, decollated."""
        engine.add_event_handler(Events.STARTED, self._predictions.clear)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.collect)
        engine.add_event_handler(Events.COMPLETED, self.write)

    def collect(self, engine: Engine) -> None:
        """Take a batch; its items have ``case`` and ``index``, the number in the whole data set.

        Raises:
            ConfigError: when an item lacks one of them.
            DataError: for probabilities or labels that aren't one for each class, or that aren't finite.
        """
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            missing = [name for name in ("case", "index") if name not in item]
            if missing:
                raise ConfigError(f"MultiLabelWriter: each item needs {missing[0]!r}, got the keys {sorted(item)}")
            case = str(item["case"])
            self._predictions.append(
                _Prediction(
                    int(item["index"]),
                    case,
                    part_values(item, self.part_columns),
                    self._checked(output["pred"], "probabilities", case),
                    self._labels(item.get("label"), case),
                )
            )

    def write(self) -> None:
        """Write the files; a collective call, the main process writes.

        Raises:
            DataError: when the parts of a case have different labels.
        """
        # a process with no item of its own repeats one
        of_number = {found.number: found for found in gathered(self._predictions)}
        if idist.get_rank() != 0:
            return
        items = [of_number[number] for number in sorted(of_number)]
        labelled = any(item.labels is not None for item in items)
        cases = items if self.parts is None else self._merged(items)
        name = "predictions.csv" if self.cases is None else f"predictions_{self.cases}.csv"
        tables = {name: [self._row(case, self.thresholds, labelled) for case in cases]}
        content: dict[str, Any] = {
            "class_names": self.class_names,
            "thresholds": self.thresholds,
            "predictions": [self._entry(case, self.thresholds) for case in cases],
        }
        if self.parts is not None:
            half = [0.5] * len(self.class_names)
            tables[f"predictions_{self.parts}.csv"] = [self._row(item, half, labelled) for item in items]
            of_parts = {"name": self.parts, "predictions": [self._entry(item, half) for item in items]}
            content |= {"cases": self.cases, "merge": self.merge, "parts": of_parts}
        self._write_together(tables, content)
        at = "the given thresholds" if self.chosen else "0.5, as no thresholds are given"
        logger.info("%d predictions at %s: %s", len(cases), at, self.output_dir / name)

    def _write_together(self, tables: Mapping[str, list[dict[str, Any]]], content: Mapping[str, Any]) -> None:
        """Write all files; none gets its name before all are written."""
        with contextlib.ExitStack() as together:
            for name, rows in tables.items():
                write_csv(together.enter_context(atomic_path(self.output_dir / name)), rows, None if rows else ["case"])
            write_json(together.enter_context(atomic_path(self.output_dir / "predictions.json")), content)

    def _merged(self, parts: Sequence[_Prediction]) -> list[_Prediction]:
        """The cases, in the order of their first parts."""
        if not parts:
            return []
        names = [part.case for part in parts]
        labels = label_by_case(names, [part.labels for part in parts])
        merge = mean_by_case if self.merge == "mean" else max_by_case
        cases, merged = merge(names, np.stack([part.probabilities for part in parts]))
        return [
            _Prediction(number, case, {}, probabilities, labels[case])
            for number, (case, probabilities) in enumerate(zip(cases, merged, strict=True))
        ]

    def _row(self, found: _Prediction, cuts: Sequence[float], labelled: bool) -> dict[str, Any]:
        findings = self._findings(found, cuts)
        row = {"case": found.case, **found.columns}
        row |= {f"prob_{name}": p for name, p in zip(self.class_names, found.probabilities.tolist(), strict=True)}
        row |= {f"pred_{name}": int(name in findings) for name in self.class_names}
        if labelled:
            known = found.labels
            row |= {f"label_{name}": "" if known is None else int(name in known) for name in self.class_names}
        return row

    def _entry(self, found: _Prediction, cuts: Sequence[float]) -> dict[str, Any]:
        return {
            "case": found.case,
            **found.columns,
            "findings": self._findings(found, cuts),
            "probabilities": dict(zip(self.class_names, found.probabilities.tolist(), strict=True)),
            **({} if found.labels is None else {"labels": list(found.labels)}),
        }

    def _findings(self, found: _Prediction, cuts: Sequence[float]) -> list[str]:
        reached = zip(self.class_names, found.probabilities, cuts, strict=True)
        return [name for name, probability, cut in reached if probability >= cut]

    def _labels(self, labels: Any, case: str) -> tuple[str, ...] | None:
        if labels is None:
            return None
        values = self._checked(labels, "labels", case)
        if (values == UNKNOWN).any():
            return None
        return tuple(name for name, value in zip(self.class_names, values, strict=True) if value > 0)

    def _checked(self, given: Any, what: str, case: str) -> np.ndarray:
        values = to_numpy(given, np.float64).ravel()
        if len(values) != len(self.class_names):
            raise DataError(f"expected {len(self.class_names)} {what}, one a class, got {len(values)}", case)
        if not np.isfinite(values).all():
            raise DataError(f"its {what} are not finite; check the image, the checkpoint and the precision", case)
        return values
