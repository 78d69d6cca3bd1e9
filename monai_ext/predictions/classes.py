"""Base of classification and multi-label classification: class probabilities of cases and instances."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from monai_ext.arrays import to_numpy
from monai_ext.errors import ConfigError, DataError
from monai_ext.metrics.classification import FloatArray
from monai_ext.metrics.intervals import PATIENT
from monai_ext.metrics.parts import label_by_case, max_by_case, mean_by_case, part_values
from monai_ext.predictions.kind import Predictions
from monai_ext.predictions.writing import Files, table_name

# Where patients are known, intervals and comparisons are over them; "reading" is how the file's values were understood.
_OF_CASE = (PATIENT, "reading")


class ClassRecord(NamedTuple):
    """Record of one item.

    Args:
        number: index in the dataset.
        name: of the case.
        label: ``None`` where unknown.
        values: logits or probabilities (C,), float64.
        columns: further columns of the prediction file: the patient, how the file was read, and what distinguishes the
            instances of a case.
    """

    number: int
    name: str
    label: Any
    values: FloatArray
    columns: dict[str, Any]

    @property
    def identity(self) -> tuple[Any, ...]:
        return self.name, self.label, self.columns

    @property
    def is_finite(self) -> bool:
        return bool(np.isfinite(self.values).all())


class ClassPredictions(Predictions):
    """Predictions of a network with an output for each class.

    Args:
        class_names: names of the C classes, in the order of the network's outputs.
        known: see `Predictions`.
        key: see `Predictions`.
        loss: called once as ``loss(logits (N, C), labels)`` on float64 CPU tensors; a module is copied there first,
            with its present weights. With instances it is the loss of the instances, which training minimises.
        cases: name of the cases, for example ``"nuclei"``; None without instances.
        instances: name of the instances, for example ``"crops"``; None where each item is a case.
        instance_columns: keys of the items that distinguish the instances of a case, for the prediction files.
        logits: whether ``pred`` has logits (C,), as in training, or probabilities.

    Raises:
        ConfigError: for another ``key``, when only one of cases and instances has a name, for columns without
            instances, or for a loss without logits.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        known: Sequence[str],
        key: str,
        loss: Callable[..., Any] | None,
        cases: str | None,
        instances: str | None,
        instance_columns: Sequence[str],
        logits: bool,
    ) -> None:
        super().__init__(known, key, loss, cases, instances)
        who = type(self).__name__
        if (cases is None) != (instances is None) or (cases is not None and cases == instances):
            raise ConfigError(
                f"{who}: name both cases and instances, differently, or neither; got {cases!r} and {instances!r}"
            )
        if instance_columns and instances is None:
            raise ConfigError(f"{who}: instance_columns {list(instance_columns)} need a name in instances")
        if loss is not None and not logits:
            raise ConfigError(f"{who}: a loss is computed from logits; leave it out, or logits=False")
        self.class_names = [str(name) for name in class_names]
        self.instance_columns = list(instance_columns)
        self.logits = logits

    def record(self, item: Mapping[str, Any]) -> ClassRecord:
        """Logits or probabilities, label and columns of an item.

        Args:
            item: of a decollated batch, with ``pred``, ``case``, ``index``, the instance columns and perhaps ``label``.

        Raises:
            ConfigError: when a column is missing.
            DataError: naming the case, for another number of values or labels than of classes.
        """
        name = str(item["case"])
        values = self.one_each(item["pred"], "logits" if self.logits else "probabilities", name)
        label = None if item.get("label") is None else self.label(item["label"], name)
        of_case = {key: str(item[key]) for key in _OF_CASE if key in item}
        columns = {**of_case, **part_values(item, self.instance_columns)}
        return ClassRecord(int(item["index"]), name, label, values, columns)

    @abstractmethod
    def label(self, given: Any, name: str) -> Any:
        """An item's label in a form that can be compared; ``None`` for an unknown one.

        Args:
            given: ``label`` of the item.
            name: of the case, for the error message.
        """

    def one_each(self, given: Any, what: str, name: str) -> FloatArray:
        """As many float64 numbers as classes.

        Args:
            given: numbers, of any shape.
            what: kind of numbers, for the error message.
            name: of the case, for the error message.

        Raises:
            DataError: for another number of values than classes.
        """
        values = to_numpy(given, np.float64).reshape(-1)
        if len(values) != len(self.class_names):
            raise DataError(f"expected {len(self.class_names)} {what}, one per class, got {len(values)}", name)
        return values

    def labels(self, records: Sequence[ClassRecord]) -> np.ndarray:
        """The labels of a validation.

        Args:
            records: of all items.

        Raises:
            DataError: naming an item without one.
        """
        for record in records:
            if record.label is None:
                raise DataError("has no label, with which its prediction could be compared", record.name)
        return np.array([record.label for record in records])

    def columns(self, records: Sequence[ClassRecord]) -> dict[str, list[Any]]:
        """What is known of all cases, and the columns that distinguish instances: name → one value per record.

        Args:
            records: of all items.
        """
        known = [name for name in _OF_CASE if all(name in record.columns for record in records)]
        return {name: [record.columns[name] for record in records] for name in [*known, *self.instance_columns]}

    def items(self, records: Sequence[ClassRecord]) -> list[ClassRecord]:
        """Records of new items with probabilities and class names as labels.

        Args:
            records: of all items.
        """
        return [
            record._replace(label=self.label_name(record.label), values=self.probabilities(record.values))
            for record in records
        ]

    @abstractmethod
    def probabilities(self, values: FloatArray) -> FloatArray:
        """Probabilities from logits; probabilities stay as they are.

        Args:
            values: (..., C).
        """

    @abstractmethod
    def label_name(self, label: Any) -> Any:
        """A label as class name or names.

        Args:
            label: of a record; ``None`` where unknown.
        """

    # -- the best epoch ------------------------------------------------------------------------------------------

    def nonfinite(self) -> list[str]:
        levels = [level for level in (self.best_instances, self.best) if level is not None]
        return [
            (level.cases or [str(row) for row in range(len(level.labels))])[number]
            for level in levels
            for number in np.flatnonzero(~np.isfinite(level.probabilities).all(axis=1))
        ]

    def best_files(self) -> Files:
        """``val_predictions.csv``; with instances ``predictions_<cases>.csv`` and ``predictions_<instances>.csv``."""
        files = Files(tables={self.best_file: self.best.rows()})
        if self.best_instances is not None:
            files.tables[table_name(self.instances, "")] = self.best_instances.rows()
        return files

    @property
    def best_file(self) -> str:
        """Name of the table of the cases of the best epoch."""
        return table_name(self.cases, "val_predictions.csv")

    def formats(self, formats: Mapping[str, Any], image_shape: Sequence[int]) -> dict[str, Any]:
        """Formats with one channel per class.

        Args:
            formats: outputs of the bundle's ``metadata.json``, with ``pred``.
            image_shape: (C, spatial axes) of the input.
        """
        return class_channels(formats, self.class_names)


def merged(items: Sequence[ClassRecord], how: str = "mean") -> list[ClassRecord]:
    """The cases of instances, in the order of their first instances.

    Args:
        items: instances with probabilities.
        how: ``"mean"`` or ``"max"`` of the instances' probabilities.

    Raises:
        DataError: when the instances of a case have different labels.
    """
    if not items:
        return []
    names = [item.name for item in items]
    labels = label_by_case(names, [item.label for item in items])
    merge = mean_by_case if how == "mean" else max_by_case
    found = zip(*merge(names, np.stack([item.values for item in items])), strict=True)
    return [ClassRecord(number, name, labels[name], values, {}) for number, (name, values) in enumerate(found)]


def level_state(result: Any) -> dict[str, Any]:
    """State of a result for a checkpoint: plain values and tensors."""
    return {
        "probabilities": torch.from_numpy(result.probabilities),
        "labels": torch.from_numpy(result.labels),
        "cases": list(result.cases),
        "columns": {name: list(values) for name, values in result.columns.items()},
    }


def class_channels(formats: Mapping[str, Any], class_names: Sequence[str]) -> dict[str, Any]:
    """Output formats in which ``pred`` has one channel per class."""
    names = {str(index): name for index, name in enumerate(class_names)}
    kind = {"type": "probabilities", "format": "classification", "spatial_shape": [1]}
    return {**formats, "pred": {**formats["pred"], **kind, "num_channels": len(names), "channel_def": names}}
