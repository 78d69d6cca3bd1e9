"""Predictions of one class per case, from one head or several."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.special import softmax

from monai_ext.arrays import to_numpy
from monai_ext.data.loader import UNKNOWN
from monai_ext.errors import ConfigError, DataError
from monai_ext.metrics.bootstrap import classification_intervals
from monai_ext.metrics.calibration import apply_platt, read_calibration
from monai_ext.metrics.classification import (
    ClassificationResult,
    FloatArray,
    classification_metrics,
    scalar_names,
)
from monai_ext.metrics.heads import head_metrics, head_results, own_probabilities
from monai_ext.metrics.intervals import Interval, interval_entries
from monai_ext.metrics.parts import merge_parts
from monai_ext.pages.document import Block, Section
from monai_ext.pages.tables import as_list
from monai_ext.predictions import classification_figures, classification_sections
from monai_ext.predictions.classes import ClassPredictions, ClassRecord, level_state, merged
from monai_ext.predictions.collecting import exact_loss
from monai_ext.predictions.kind import NO_BEST, Validation
from monai_ext.predictions.reading import filled_rows, number, patients
from monai_ext.predictions.writing import Files, table_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_OF_INSTANCES = ("metrics", "per_class", "confusion_matrix", "confusion_matrix_normalised", "skipped")


class Classification(ClassPredictions):
    """The predictions of a classifier; see `Predictions` and `ClassPredictions`.

    Each case has one label, a class index. A case's probabilities are the mean of its instances'. New cases may have
    a label or none; calibration and threshold apply to cases (they were fitted on cases), so instances keep the
    network's own probabilities and the most probable class.

    Args:
        class_names: see `ClassPredictions`.
        loss: see `ClassPredictions`.
        key: see `Predictions`.
        positive: see `monai_ext.metrics.classification_metrics`.
        cases: see `ClassPredictions`.
        instances: see `ClassPredictions`.
        instance_columns: see `ClassPredictions`.
        heads: whether the network has several heads, of which each case belongs to one: class names are
            ``<head>/<class>``, each case is scored by the head of its label, see `monai_ext.metrics.head_metrics`,
            and intervals are those of each head's F1. For validation only.
        logits: see `ClassPredictions`.
        calibration: ``cross_validation.json`` with Platt scaling and threshold (fitted on out-of-fold predictions) for
            new cases of two classes.
        threshold: least probability, 0..1, at which the last of two classes is predicted for new cases; ``None`` for
            that of ``calibration``, else the most probable class is predicted.

    Raises:
        ConfigError: for arguments that don't fit each other.

    Example:
        >>> Classification(["LGG", "HGG"], torch.nn.CrossEntropyLoss())
        >>> Classification(names, loss, "f1", cases="nuclei", instances="crops", instance_columns=["crop_z"])
    """

    task = "classification"
    alternatives = classification_figures.ALTERNATIVES

    def __init__(
        self,
        class_names: Sequence[str],
        loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
        key: str = "auc",
        positive: str | None = None,
        cases: str | None = None,
        instances: str | None = None,
        instance_columns: Sequence[str] = (),
        heads: bool = False,
        logits: bool = True,
        calibration: str | Path | None = None,
        threshold: float | None = None,
    ) -> None:
        known = scalar_names(len(class_names))
        super().__init__(class_names, known, key, loss, cases, instances, instance_columns, logits)
        if (calibration or threshold is not None) and len(class_names) != 2:
            raise ConfigError(f"threshold and calibration are for two classes, not {len(class_names)}")
        if threshold is not None and not 0 <= threshold <= 1:
            raise ConfigError(f"--threshold {threshold}: must lie in 0..1")
        if heads and (instances is not None or not logits):
            raise ConfigError("Classification: several heads are for logits of plain cases, without instances")
        self.positive = positive
        self.heads = heads
        self.calibration = calibration
        self.threshold = threshold

    def label(self, given: Any, name: str) -> int | None:
        value = int(given)
        return None if value == UNKNOWN else value

    def label_name(self, label: int | None) -> str | None:
        return None if label is None else self.class_names[label]

    def probabilities(self, values: FloatArray) -> FloatArray:
        return np.asarray(softmax(values, axis=-1)) if self.logits else values

    # -- a validation --------------------------------------------------------------------------------------------

    def judged(self, records: Sequence[ClassRecord]) -> Validation:
        values, labels = np.stack([record.values for record in records]), self.labels(records)
        own = own_probabilities(values, labels, self.class_names) if self.heads else self.probabilities(values)
        items = self._result(own, labels, [record.name for record in records], self.columns(records))
        loss = exact_loss(self.loss, values, labels)
        if self.instances is None:
            return Validation(items, None, loss)
        return Validation(merge_parts(items, self.positive), items, loss)

    def _result(
        self, probabilities: Any, labels: Any, cases: Sequence[str], columns: Mapping[str, Sequence[Any]]
    ) -> ClassificationResult:
        if self.heads:
            return head_metrics(probabilities, labels, self.class_names, cases, columns)
        return classification_metrics(probabilities, labels, self.class_names, self.positive, cases, columns)

    # -- the best epoch ------------------------------------------------------------------------------------------

    def best_files(self) -> Files:
        """Tables, see `ClassPredictions`, and ``val_{probs,preds,labels}.npy`` of the cases, rows in the same order."""
        files = super().best_files()
        arrays = {"probs": self.best.probabilities, "preds": self.best.predictions, "labels": self.best.labels}
        files.arrays = {f"val_{name}.npy": array for name, array in arrays.items()}
        return files

    def metrics(self, intervals: bool = False) -> dict[str, Any]:
        """The part of ``metrics.json`` about the best epoch.

        Args:
            intervals: compute 95 % confidence intervals too, which takes some seconds; see
                `monai_ext.metrics.classification_intervals`. Instances have none: those of one case are too similar.
        """
        found: dict[str, Any] = {"task": self.task, "metrics": {}, "per_class": {}, "confusion_matrix": []}
        if self.best is None:
            return {**found, "intervals": {}, "skipped": [NO_BEST]}
        found |= {**self.best.to_dict(), "predictions": f"predictions/{self.best_file}"}
        if intervals:
            found |= interval_entries(self._intervals())
        if self.best_instances is not None:
            of_instances = self.best_instances.to_dict()
            found["cases"] = self.cases
            found["parts"] = {"name": self.instances, **{name: of_instances[name] for name in _OF_INSTANCES}}
        return found

    def _intervals(self) -> dict[str, Interval]:
        unit = self.cases or "cases"
        if not self.heads:
            return classification_intervals(self.best, unit)
        heads = head_results(self.best.probabilities, self.best.labels, self.class_names, self.best.columns)
        found = {f"f1_{head}": classification_intervals(result, unit).get("f1") for head, result in heads.items()}
        return {name: interval for name, interval in found.items() if interval is not None}

    def report(self) -> str | None:
        """scikit-learn's text report of the cases, that of the instances below; ``None`` when nothing is computable."""
        levels = [(self.cases, self.best), (self.instances, self.best_instances)]
        texts = [(name, result.report()) for name, result in levels if result is not None]
        return "\n".join(f"{name}\n\n{text}" if name else text for name, text in texts if text is not None) or None

    def best_state(self) -> dict[str, Any]:
        """Probabilities, labels, case names and columns of the items: of the instances, where there are some."""
        items = self.best if self.instances is None else self.best_instances
        return {} if items is None else level_state(items)

    def restore(self, state: Mapping[str, Any]) -> None:
        if not state:
            return
        arrays = to_numpy(state["probabilities"]), to_numpy(state["labels"])
        items = self._result(*arrays, state["cases"], state.get("columns") or {})
        self.best = items if self.instances is None else merge_parts(items, self.positive)
        self.best_instances = None if self.instances is None else items

    # -- new cases -----------------------------------------------------------------------------------------------

    def predicted(self, records: Sequence[ClassRecord]) -> Files:
        """``predictions.csv`` and ``predictions.json``; with instances a table each of cases and instances.

        Columns: ``case``, the instance columns, ``prob_<class>`` for every class, ``prediction``, and ``label`` when
        any label is known, empty where it isn't.

        Args:
            records: of all items, with finite values.

        Raises:
            ConfigError: for several heads, or a calibration file without calibration.
            DataError: for a calibration file that can't be read; when the instances of a case have different labels.
        """
        if self.heads:
            raise ConfigError("Classification: new cases belong to no head; predict with the network of one head")
        platt, fitted = read_calibration(self.calibration) if self.calibration else (None, None)
        threshold = fitted if self.threshold is None else self.threshold
        items = self.items(records)
        labelled = any(item.label is not None for item in items)
        cases = items if self.instances is None else merged(items)
        rows = [self._row(case, platt, threshold, labelled) for case in cases]
        files = Files(tables={table_name(self.cases, "predictions.csv"): rows})
        document: dict[str, Any] = {"class_names": self.class_names, "calibration": platt, "threshold": threshold}
        document["predictions"] = rows
        if self.instances is not None:
            of_instances = [self._row(item, None, None, labelled) for item in items]
            files.tables[table_name(self.instances, "")] = of_instances
            document["parts"] = {"name": self.instances, "predictions": of_instances}
        files.documents["predictions.json"] = document
        return files

    def _row(
        self, item: ClassRecord, platt: Mapping[str, float] | None, threshold: float | None, labelled: bool
    ) -> dict[str, Any]:
        probabilities = item.values
        if platt is not None:
            positive = float(apply_platt(probabilities[1], **platt))
            probabilities = np.array([1 - positive, positive])
        predicted = int(probabilities.argmax()) if threshold is None else int(probabilities[1] >= threshold)
        return {
            "case": item.name,
            **item.columns,
            **{f"prob_{name}": float(p) for name, p in zip(self.class_names, probabilities, strict=True)},
            "prediction": self.class_names[predicted],
            **({"label": item.label or ""} if labelled else {}),
        }

    # -- reports -------------------------------------------------------------------------------------------------

    @classmethod
    def read(cls, path: Path, metrics: Mapping[str, Any]) -> ClassificationResult:
        """The result from a prediction file with the columns case, prob_<class> …, label; see `Predictions`.

        Args:
            path: CSV.
            metrics: ``metrics.json`` of the run, with ``class_names``; without these, all classes of the columns.

        Raises:
            DataError: naming the file, for a missing column, a value that is no number, or a label that is no class.
        """
        names = [str(name) for name in as_list(metrics.get("class_names"))]
        rows = filled_rows(path, ["case", "label", *(f"prob_{name}" for name in names)])
        names = names or [column[5:] for column in rows[0] if column.startswith("prob_")]
        probabilities = [[number(row, f"prob_{name}", path) for name in names] for row in rows]
        unknown = sorted({row["label"] for row in rows} - set(names))
        if unknown:
            raise DataError(f"label {unknown[0]!r} is none of the classes {names}", path)
        labels = [names.index(row["label"]) for row in rows]
        columns = patients(rows)
        cases = [row["case"] for row in rows]
        return classification_metrics(np.array(probabilities), labels, names, cases=cases, columns=columns)

    @classmethod
    def figures(cls, result: ClassificationResult, cases: str | None = None) -> dict[str, Figure]:
        return classification_figures.figures(result)

    @classmethod
    def metric_blocks(cls, metrics: Mapping[str, Any], unit: str) -> list[Block]:
        return classification_sections.metric_blocks(metrics, unit)

    @classmethod
    def sections(cls, result: ClassificationResult | None, unit: str) -> list[Section]:
        return [Section("Mistakes", classification_sections.mistakes_blocks(result, unit))]

    @classmethod
    def case_blocks(cls, result: ClassificationResult, unit: str) -> list[Block]:
        return classification_sections.case_tables(result.rows(), f"Validation {unit}", folded=True)
