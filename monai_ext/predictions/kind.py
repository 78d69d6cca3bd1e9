"""The base of all kinds of predictions, from the batch to the report."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from ignite.engine import Engine

from monai_ext.errors import ConfigError, DataError
from monai_ext.pages.document import Block, Section
from monai_ext.predictions.collecting import CaseMetric
from monai_ext.predictions.writing import Files, refuse_nonfinite
from monai_ext.provenance import mark

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NO_BEST = "no best epoch: none was validated, or the metric that decides could not be computed in any"


class Validation(NamedTuple):
    """Results of a validation.

    Args:
        result: of the cases; has ``metrics``, name → number or ``None``.
        instances: result of the instances; ``None`` where each item is a case.
        loss: over all items; ``None`` without a loss, or where it is one of the metrics.
    """

    result: Any
    instances: Any = None
    loss: float | None = None


class Predictions(CaseMetric):
    """The predictions of one kind of task: metrics, files, figures and report sections.

    In a config it is one object: the key metric of the evaluator, and ``predictions`` of
    `monai_ext.handlers.StandardTraining`, `monai_ext.handlers.StandardEvaluation` and, in inference,
    `monai_ext.handlers.WritePredictions`. Batches need ``case``, the name of each case, and ``index``, the item's
    number in the whole dataset, the same in every process.

    At the end of a validation every process has the scalars in ``engine.state.metrics``, NaN where not computable, and
    in ``engine.state.metric_details[task]`` the whole result, cases in the order of ``index``. Neither depends on the
    batch size or the number of processes. A NaN must never become "best": MONAI accepts any first key metric, so
    handlers that compare metrics have to exclude NaN.

    Where the items are instances of cases (crops of a nucleus, slices of a volume), the metrics are those of the
    cases; those of the instances are added as ``<instances>_<metric>``, their result as
    ``metric_details["instances"]``.

    Args:
        known: names of the metrics of this kind.
        key: the metric that is reported under the name with which this object is attached.
        loss: adds the metric ``loss``.
        cases: name of the cases, such as ``"nuclei"``; ``None`` for the plain "cases".
        instances: name of the instances, such as ``"crops"``; ``None`` where each item is a case.

    Attributes:
        task: name of the kind in ``metrics.json``, by which reports find the class.
        best: result of the best epoch; ``None`` before the first validation.
        best_instances: result of the instances of the best epoch; ``None`` without instances.

    Raises:
        ConfigError: for another ``key``.
    """

    task: ClassVar[str] = ""
    # For the report: alternative texts of figures, whether data are counted by class, whether these counts add up to
    # the number of items, whether there are previews, and how instances are merged to a case.
    alternatives: ClassVar[Mapping[str, str]] = {}
    by_class: ClassVar[bool] = True
    exclusive: ClassVar[bool] = True
    previews: ClassVar[bool] = False
    joined: ClassVar[str] = "mean"

    def __init__(
        self,
        known: Sequence[str],
        key: str,
        loss: Callable[..., Any] | None = None,
        cases: str | None = None,
        instances: str | None = None,
    ) -> None:
        names = [*known, *(["loss"] if loss is not None else [])]
        if key not in names:
            raise ConfigError(f"{type(self).__name__}: key must be one of {names}, got {key!r}")
        self.key = key
        self.loss = loss
        self.cases = cases
        self.instances = instances
        self.best: Any = None
        self.best_instances: Any = None
        super().__init__()

    # -- a validation --------------------------------------------------------------------------------------------

    def compute(self) -> Validation:
        """The result of the cases of all processes; a collective call.

        Raises:
            DataError: when there are no cases, two different ones have the same index, or one has no label.
        """
        records = self.collected()
        if not records:
            raise DataError(f"{type(self).__name__}: the validation data hold no cases")
        return self.judged(records)

    @abstractmethod
    def judged(self, records: Sequence[Any]) -> Validation:
        """Compare predictions and labels of all cases.

        Args:
            records: of all cases, in the order of their indices.
        """

    def completed(self, engine: Engine, name: str) -> None:
        found = self.compute()
        scalars, details = dict(found.result.metrics), {self.task: found.result}
        if found.instances is not None:
            scalars |= {f"{self.instances}_{metric}": value for metric, value in found.instances.metrics.items()}
            details["instances"] = found.instances
        if found.loss is not None:
            scalars["loss"] = found.loss
        numbers = {metric: float("nan") if value is None else value for metric, value in scalars.items()}
        engine.state.metrics.update(numbers)
        if not hasattr(engine.state, "metric_details"):
            engine.state.metric_details = {}
        engine.state.metric_details.update(details)
        engine.state.metrics[name] = numbers[self.key]

    # -- the best epoch ------------------------------------------------------------------------------------------

    def take(self, evaluator: Engine) -> None:
        """Keep the validation that has just ended as the best one.

        Args:
            evaluator: its engine.
        """
        details = evaluator.state.metric_details
        self.best = details[self.task]
        self.best_instances = None if self.instances is None else details["instances"]

    def decide_as_now(self) -> None:
        """Keep what was chosen on the best epoch's cases (thresholds) for cases that come now."""

    def for_checkpoint(self, evaluator: Engine) -> dict[str, Any]:
        """Values that best checkpoints (and the metadata of exports) store beside the network, such as thresholds.

        They are from the validation that has just ended, which is the best one for the calling monitor.

        Args:
            evaluator: engine of the validation.

        Returns:
            Plain values by name.
        """
        return {}

    def write(self, folder: str | Path, seen: Mapping[str, bool | None] | None = None) -> None:
        """Write the predictions of the best epoch: all files or none; nothing before the first validation.

        Args:
            folder: where to write; it is created.
            seen: which cases were trained on, for a column that says so, see `monai_ext.provenance.mark`.

        Raises:
            DataError: naming a case whose predictions aren't finite.
            WriteError: when a file can't be written.
        """
        if self.best is not None:
            refuse_nonfinite(self.nonfinite())
            files = self.best_files()
            if seen is not None:
                mark(files.tables.values(), seen)
            files.write(folder)

    @abstractmethod
    def nonfinite(self) -> list[str]:
        """Names of the cases of the best epoch whose predictions aren't finite."""

    @abstractmethod
    def best_files(self) -> Files:
        """The predictions of the best epoch."""

    @abstractmethod
    def metrics(self, intervals: bool = False) -> dict[str, Any]:
        """The part of ``metrics.json`` about the best epoch.

        Args:
            intervals: compute 95 % confidence intervals too, which takes some seconds.
        """

    def report(self) -> str | None:
        """A text for ``metrics/classification_report.txt``, where there is one."""
        return None

    def drawn(self) -> dict[str, Figure]:
        """Figures of the best epoch, by file name without suffix."""
        return {} if self.best is None else self.figures(self.best, self.cases)

    @abstractmethod
    def best_state(self) -> dict[str, Any]:
        """State of the best epoch for a checkpoint: plain values and tensors.

        Ignite's ``state_dict`` is different: it has the records of an unfinished validation.
        """

    @abstractmethod
    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore the best epoch.

        Args:
            state: from `best_state`; empty for none.
        """

    @abstractmethod
    def formats(self, formats: Mapping[str, Any], image_shape: Sequence[int]) -> dict[str, Any]:
        """The outputs of a bundle's ``metadata.json``, adapted to a run.

        Args:
            formats: the outputs, by name.
            image_shape: (C, spatial axes) of the input.
        """

    # -- new cases -----------------------------------------------------------------------------------------------

    def files(self) -> Files:
        """The predictions of all collected cases, with or without labels; a collective call.

        Raises:
            DataError: naming a case whose predictions aren't finite; when two different ones have the same index.
        """
        records = self.collected()
        refuse_nonfinite(record.name for record in records if not record.is_finite)
        return self.predicted(records)

    @abstractmethod
    def predicted(self, records: Sequence[Any]) -> Files:
        """Files of new cases.

        Args:
            records: of all cases, with finite predictions, in the order of their indices.
        """

    # -- reports: the only place that knows the figures and sections of this kind ----------------------------------

    @classmethod
    def read(cls, path: Path, metrics: Mapping[str, Any]) -> Any:
        """Result from the prediction file of a run.

        Args:
            path: CSV of the cases.
            metrics: ``metrics.json`` of the run.

        Raises:
            DataError: naming file, case and column of a damaged value.
        """
        return None

    @classmethod
    def figures(cls, result: Any, cases: str | None = None) -> dict[str, Figure]:
        """Figures of a result, by file name without suffix.

        Args:
            result: from `read`, or the best one of a run.
            cases: name of the cases, such as ``"nuclei"``.
        """
        return {}

    @classmethod
    def metric_blocks(cls, metrics: Mapping[str, Any], unit: str) -> list[Block]:
        """Tables of the metrics.

        Args:
            metrics: as in ``metrics.json``.
            unit: name of the cases or instances.
        """
        return []

    @classmethod
    def sections(cls, result: Any, unit: str) -> list[Section]:
        """Sections about wrong predictions, case by case.

        Args:
            result: from `read`; ``None`` for a file that can't be read.
            unit: name of the cases.
        """
        return []

    @classmethod
    def case_blocks(cls, result: Any, unit: str) -> list[Block]:
        """A list of all cases, for kinds that have one.

        Args:
            result: from `read`.
            unit: name of the cases.
        """
        return []


def validation_name(name: str) -> str:
    """Name of an evaluator's metric in the history, where losses get the prefix ``val_``."""
    return f"val_{name}" if name == "loss" or name.startswith("loss_") else name
