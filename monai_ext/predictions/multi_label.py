"""Multi-label predictions, with a threshold for each class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ignite.engine import Engine
from scipy.special import expit

from monai_ext.arrays import to_numpy
from monai_ext.data.loader import UNKNOWN
from monai_ext.errors import ConfigError, DataError
from monai_ext.metrics.classification import FloatArray
from monai_ext.metrics.intervals import interval_entries
from monai_ext.metrics.multi_label import MultiLabelResult, merge_label_parts, multi_label_metrics, with_thresholds
from monai_ext.metrics.multi_label_bootstrap import multi_label_intervals
from monai_ext.metrics.multi_label_scores import overall_score_names
from monai_ext.metrics.parts import MERGES
from monai_ext.pages.document import Block, Section
from monai_ext.pages.tables import as_list
from monai_ext.predictions import multi_label_figures, multi_label_sections
from monai_ext.predictions.classes import ClassPredictions, ClassRecord, level_state, merged
from monai_ext.predictions.collecting import exact_loss
from monai_ext.predictions.kind import NO_BEST, Validation
from monai_ext.predictions.reading import filled_rows, number, patients
from monai_ext.predictions.writing import Files, table_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class MultiLabel(ClassPredictions):
    """The predictions of a multi-label classifier; see `Predictions` and `ClassPredictions`.

    Labels are C numbers 0 or 1, probabilities the sigmoids of the logits. Without ``thresholds`` (in training) they are
    chosen on the validation cases, for the best F1 of each class: best checkpoints then store them, and
    `monai_ext.networks.saved_thresholds` reads them for evaluation and inference. Scores at thresholds chosen on the
    same cases are slightly optimistic, which metrics and report note. Thresholds apply to cases, so instances are
    decided at 0.5.

    Args:
        class_names: see `ClassPredictions`.
        loss: see `ClassPredictions`.
        key: see `Predictions`.
        thresholds: least probability at which each class is predicted, C numbers in 0..1; adds the scores with the
            suffix ``_tuned``. ``None`` to choose them in a validation; new cases then have 0.5.
        cases: see `ClassPredictions`.
        instances: see `ClassPredictions`.
        instance_columns: see `ClassPredictions`.
        merge: ``"mean"`` or, for each class, ``"max"`` of the instances' probabilities is the case's.
        logits: see `ClassPredictions`.

    Attributes:
        chosen_here: whether the thresholds of the best epoch were chosen on its own cases.

    Raises:
        ConfigError: for thresholds that aren't C numbers in 0..1, another ``merge``; see `ClassPredictions`.

    Example:
        >>> MultiLabel(LABELS, loss, cases="volumes", instances="slices", instance_columns=["slice_index"])
    """

    task = "multi_label"
    alternatives = multi_label_figures.ALTERNATIVES
    exclusive = False
    joined = "merged"

    def __init__(
        self,
        class_names: Sequence[str],
        loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
        key: str = "auroc",
        thresholds: Sequence[float] | None = None,
        cases: str | None = None,
        instances: str | None = None,
        instance_columns: Sequence[str] = (),
        merge: str = "mean",
        logits: bool = True,
    ) -> None:
        known = overall_score_names(thresholds is not None)
        super().__init__(class_names, known, key, loss, cases, instances, instance_columns, logits)
        if merge not in MERGES:
            raise ConfigError(f"MultiLabel: merge must be one of {', '.join(MERGES)}, got {merge!r}")
        count = len(class_names)
        if thresholds is not None and (len(thresholds) != count or not all(0 <= value <= 1 for value in thresholds)):
            raise ConfigError(f"MultiLabel: thresholds must be {count} numbers in 0..1 (by class), got {thresholds}")
        self.thresholds = None if thresholds is None else [float(value) for value in thresholds]
        self.merge = merge
        self.chosen_here = False

    def label(self, given: Any, name: str) -> tuple[float, ...] | None:
        values = self.one_each(given, "labels", name)
        if not np.isfinite(values).all():
            raise DataError("its labels are not finite", name)
        return None if (values == UNKNOWN).any() else tuple(values.tolist())

    def label_name(self, label: tuple[float, ...] | None) -> tuple[str, ...] | None:
        """Names of the positive classes of a case; ``None`` where they are unknown.

        Args:
            label: C numbers 0 or 1; ``None`` where unknown.
        """
        if label is None:
            return None
        return tuple(name for name, value in zip(self.class_names, label, strict=True) if value > 0)

    def probabilities(self, values: FloatArray) -> FloatArray:
        return np.asarray(expit(values)) if self.logits else values

    # -- a validation --------------------------------------------------------------------------------------------

    def judged(self, records: Sequence[ClassRecord]) -> Validation:
        values, labels = np.stack([record.values for record in records]), self.labels(records)
        items = multi_label_metrics(
            self.probabilities(values),
            labels,
            self.class_names,
            self.thresholds if self.instances is None else None,
            [record.name for record in records],
            self.columns(records),
        )
        loss = exact_loss(self.loss, values, labels)
        if self.instances is None:
            return Validation(items, None, loss)
        return Validation(merge_label_parts(items, self.merge, self.thresholds), items, loss)

    # -- the best epoch ------------------------------------------------------------------------------------------

    def take(self, evaluator: Engine) -> None:
        super().take(evaluator)
        self.chosen_here = self.best.thresholds is None
        self.best = with_thresholds(self.best)

    def decide_as_now(self) -> None:
        """Keep the thresholds of the best epoch."""
        if self.best is not None:
            self.thresholds = self.best.thresholds

    def for_checkpoint(self, evaluator: Engine) -> dict[str, Any]:
        """``thresholds`` of the validation that has just ended, in the order of the classes, and ``thresholds_level``,
        the name of the cases to which they apply, such as ``"volumes"``.

        Args:
            evaluator: engine of the validation.
        """
        thresholds = with_thresholds(evaluator.state.metric_details[self.task]).thresholds
        return {} if thresholds is None else {"thresholds": thresholds, "thresholds_level": self._level}

    def best_files(self) -> Files:
        """Tables, see `ClassPredictions`; that of the cases says where the thresholds of ``pred_<class>`` come from."""
        files = super().best_files()
        if self.best.thresholds is not None:
            files.tables[self.best_file] = [
                {**row, "thresholds_chosen_on": self._chosen_on} for row in files.tables[self.best_file]
            ]
        return files

    @property
    def _chosen_on(self) -> str:
        return "these cases" if self.chosen_here else "other cases"

    def metrics(self, intervals: bool = False) -> dict[str, Any]:
        """The part of ``metrics.json`` about the best epoch; ``thresholds`` are in the order of ``class_names``.

        Args:
            intervals: compute 95 % confidence intervals too, which takes some seconds.
        """
        found: dict[str, Any] = {"task": self.task, "confusion_matrix": [], "intervals": {}}
        if self.best is None:
            return {**found, "metrics": {}, "per_class": {}, "skipped": [NO_BEST]}
        found |= self.best.to_dict()
        found |= {"thresholds_level": self._level, "thresholds_chosen_here": self.chosen_here}
        found["thresholds_chosen_on"] = self._chosen_on
        found["predictions"] = f"predictions/{self.best_file}"
        if intervals:
            found |= interval_entries(multi_label_intervals(self.best, self._level))
        if self.best_instances is not None:
            of_instances = self.best_instances.to_dict()
            chosen = {name: of_instances[name] for name in ("metrics", "per_class", "skipped")}
            found |= {"cases": self.cases, "parts": {"name": self.instances, **chosen}}
        return found

    def best_state(self) -> dict[str, Any]:
        """Probabilities, labels and thresholds of the cases and of the instances."""
        if self.best is None:
            return {}
        instances = None if self.best_instances is None else _state(self.best_instances)
        return {"cases": _state(self.best), "parts": instances, "chosen_here": self.chosen_here}

    def restore(self, state: Mapping[str, Any]) -> None:
        if not state:
            return
        self.best = _restored(state["cases"], self.class_names)
        self.best_instances = None if state["parts"] is None else _restored(state["parts"], self.class_names)
        self.chosen_here = state["chosen_here"]

    @property
    def _level(self) -> str:
        return self.cases or "cases"

    # -- new cases -----------------------------------------------------------------------------------------------

    def predicted(self, records: Sequence[ClassRecord]) -> Files:
        """``predictions.csv`` and ``predictions.json``; with instances a table each of cases and instances.

        Columns: ``case``, the instance columns, ``prob_<class>`` and ``pred_<class>`` (0 or 1) for every class, and
        ``label_<class>`` when any label is known, empty where it isn't. The document has the classes, their
        thresholds, and for each case its probabilities by name and its ``findings``, the classes that reach their
        threshold.

        Args:
            records: of all items, with finite values.

        Raises:
            DataError: when the instances of a case have different labels.
        """
        half = [0.5] * len(self.class_names)
        cuts = self.thresholds or half
        items = self.items(records)
        labelled = any(item.label is not None for item in items)
        cases = items if self.instances is None else merged(items, self.merge)
        files = Files({table_name(self.cases, "predictions.csv"): [self._row(case, cuts, labelled) for case in cases]})
        entries = [self._entry(case, cuts) for case in cases]
        document = {"class_names": self.class_names, "thresholds": cuts, "predictions": entries}
        if self.instances is not None:
            files.tables[table_name(self.instances, "")] = [self._row(item, half, labelled) for item in items]
            of_instances = {"name": self.instances, "predictions": [self._entry(item, half) for item in items]}
            document |= {"cases": self.cases, "merge": self.merge, "parts": of_instances}
        files.documents["predictions.json"] = document
        return files

    def _row(self, item: ClassRecord, cuts: Sequence[float], labelled: bool) -> dict[str, Any]:
        findings, known = self._findings(item, cuts), item.label
        row = {"case": item.name, **item.columns}
        row |= {f"prob_{name}": p for name, p in zip(self.class_names, item.values.tolist(), strict=True)}
        row |= {f"pred_{name}": int(name in findings) for name in self.class_names}
        if labelled:
            row |= {f"label_{name}": "" if known is None else int(name in known) for name in self.class_names}
        return row

    def _entry(self, item: ClassRecord, cuts: Sequence[float]) -> dict[str, Any]:
        return {
            "case": item.name,
            **item.columns,
            "findings": self._findings(item, cuts),
            "probabilities": dict(zip(self.class_names, item.values.tolist(), strict=True)),
            **({} if item.label is None else {"labels": list(item.label)}),
        }

    def _findings(self, item: ClassRecord, cuts: Sequence[float]) -> list[str]:
        reached = zip(self.class_names, item.values, cuts, strict=True)
        return [name for name, probability, cut in reached if probability >= cut]

    # -- reports -------------------------------------------------------------------------------------------------

    @classmethod
    def read(cls, path: Path, metrics: Mapping[str, Any]) -> MultiLabelResult:
        """The result from a prediction file with the columns case, prob_<class> …, label_<class> …

        Args:
            path: CSV.
            metrics: ``metrics.json`` of the run, with ``class_names`` and ``thresholds``.

        Raises:
            DataError: naming the file, for a missing column or a value that is no number; for thresholds that are no
                numbers.
        """
        names = [str(name) for name in as_list(metrics.get("class_names"))]
        kinds = [[f"{kind}_{name}" for name in names] for kind in ("prob", "label")]
        rows = filled_rows(path, ["case", *kinds[0], *kinds[1]])
        scores, labels = (np.array([[number(row, name, path) for name in each] for row in rows]) for each in kinds)
        try:
            cuts = [float(value) for value in as_list(metrics.get("thresholds"))] or None
        except (TypeError, ValueError) as error:
            raise DataError("metrics.json: thresholds must be numbers") from error
        return multi_label_metrics(scores, labels, names, cuts, [row["case"] for row in rows], patients(rows))

    @classmethod
    def figures(cls, result: MultiLabelResult, cases: str | None = None) -> dict[str, Figure]:
        return multi_label_figures.figures(result, cases)

    @classmethod
    def metric_blocks(cls, metrics: Mapping[str, Any], unit: str) -> list[Block]:
        return multi_label_sections.metric_blocks(metrics, unit)

    @classmethod
    def sections(cls, result: MultiLabelResult | None, unit: str) -> list[Section]:
        return [Section("Mistakes", multi_label_sections.mistakes_blocks(result, unit))]

    @classmethod
    def case_blocks(cls, result: MultiLabelResult, unit: str) -> list[Block]:
        return [multi_label_sections.case_table(result, unit)]


def _state(result: MultiLabelResult) -> dict[str, Any]:
    return {**level_state(result), "thresholds": result.thresholds}


def _restored(state: Mapping[str, Any], class_names: Sequence[str]) -> MultiLabelResult:
    return multi_label_metrics(
        to_numpy(state["probabilities"]),
        to_numpy(state["labels"]),
        class_names,
        state["thresholds"],
        state["cases"] or None,
        state["columns"],
    )
