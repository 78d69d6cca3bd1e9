"""What all kinds of tasks have in common, from the batch to the report."""

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

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Validation(NamedTuple):
    """What a validation found.

    Attributes:
        result: of the cases; has ``metrics``, name -> number or ``None``.
        instances: the same of their instances; ``None`` where each item is a case.
        loss: over all items; ``None`` without one, or where it is one of the metrics.
    """

    result: Any
    instances: Any = None
    loss: float | None = None


class Predictions(CaseMetric):
    """The predictions of one kind of task: metrics, files, figures and what the report tells.

    In a config it is one object, which the evaluator has as its key metric, `monai_ext.handlers.StandardTraining` and
    `monai_ext.handlers.StandardEvaluation` as ``predictions``, and, in inference,
    `monai_ext.handlers.WritePredictions`. Batches hold ``case``, the name of each case, and ``index``, the item's
    number in the whole data set, the same in every process.

    At the end of a validation every process has the scalars in ``engine.state.metrics``, NaN where not computable, and
    in ``engine.state.metric_details[task]`` the whole result, cases in the order of ``index``. Neither depends on the
    batch size or the number of processes. A NaN must never become "best": MONAI takes the first key metric whatever
    it is, so compare with that in mind.

    Where the items are instances of cases (crops of a nucleus, slices of a volume), the metrics are those of the
    cases; those of the instances are added as ``<instances>_<metric>``, their result as
    ``metric_details["instances"]``.

    Args:
        known: names of the metrics there are.
        key: the metric that goes under the name this object is attached with.
        loss: adds the metric ``loss``.
        cases, instances: what the two levels are called; ``None`` for items that are plain cases.

    Attributes:
        task: the word in ``metrics.json`` by which reports find the class.
        best, best_instances: results of the best epoch; ``None`` before the first validation.

    Raises:
        ConfigError: for another ``key``.
    """

    task: ClassVar[str] = ""
    # For the report: texts in place of figures, whether data are counted by class, whether these counts add up to the
    # number of items, whether there are previews, and how instances make a case.
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
        """What the cases of all processes say together; a collective call.

        Raises:
            DataError: when there are no cases, or when two different ones have the same index.
        """
        records = self.collected()
        if not records:
            raise DataError(f"{type(self).__name__}: the validation data hold no cases")
        return self.judged(records)

    @abstractmethod
    def judged(self, records: Sequence[Any]) -> Validation:
        """Compare predictions and labels of all cases."""

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
        """The validation that has just ended is the best one."""
        details = evaluator.state.metric_details
        self.best = details[self.task]
        self.best_instances = None if self.instances is None else details["instances"]

    def for_checkpoint(self, evaluator: Engine) -> dict[str, Any]:
        """What a best checkpoint (and the metadata of exports) holds beside the network, such as thresholds: plain
        values from the validation that has just ended, which another monitor may call the best.
        """
        return {}

    def write(self, folder: str | Path) -> None:
        """Write the predictions of the best epoch: all files or none; nothing before the first validation.

        Raises:
            DataError: naming a case whose predictions aren't finite.
            WriteError: when a file can't be written.
        """
        if self.best is not None:
            refuse_nonfinite(self.nonfinite())
            self.best_files().write(folder)

    @abstractmethod
    def nonfinite(self) -> list[str]:
        """Names of the cases of the best epoch whose predictions aren't finite."""

    @abstractmethod
    def best_files(self) -> Files:
        """The predictions of the best epoch."""

    @abstractmethod
    def metrics(self, intervals: bool = False) -> dict[str, Any]:
        """The part of ``metrics.json`` about the best epoch; confidence intervals cost some seconds."""

    def report(self) -> str | None:
        """A text for ``metrics/classification_report.txt``, where there is one."""
        return None

    def drawn(self) -> dict[str, Figure]:
        """Figures of the best epoch, by file name without suffix."""
        return {} if self.best is None else self.figures(self.best, self.cases)

    @abstractmethod
    def best_state(self) -> dict[str, Any]:
        """What a checkpoint keeps of the best epoch: plain values and tensors.

        Ignite's ``state_dict`` is something else: the batches of a validation that is going on.
        """

    @abstractmethod
    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over `best_state`."""

    @abstractmethod
    def formats(self, formats: Mapping[str, Any], image_shape: Sequence[int]) -> dict[str, Any]:
        """The outputs of a bundle's ``metadata.json`` made true for a run; ``image_shape`` is (C, spatial axes)."""

    # -- new cases -----------------------------------------------------------------------------------------------

    def files(self) -> Files:
        """The predictions of all cases that were collected, with or without labels; a collective call.

        Raises:
            DataError: naming a case whose predictions aren't finite; when two different ones have the same index.
        """
        records = self.collected()
        refuse_nonfinite(record.name for record in records if not record.is_finite)
        return self.predicted(records)

    @abstractmethod
    def predicted(self, records: Sequence[Any]) -> Files:
        """Files of new cases, whose predictions are finite."""

    # -- reports: the only place that knows how this kind is drawn and told ----------------------------------------

    @classmethod
    def read(cls, path: Path, metrics: Mapping[str, Any]) -> Any:
        """What the prediction file of a run holds.

        Args:
            path: of the cases.
            metrics: ``metrics.json``.

        Raises:
            DataError: naming file, case and column of what is damaged.
        """
        return None

    @classmethod
    def figures(cls, result: Any, cases: str | None = None) -> dict[str, Figure]:
        """Figures of a result, by file name without suffix; ``cases`` is what the cases are called."""
        return {}

    @classmethod
    def metric_blocks(cls, metrics: Mapping[str, Any], unit: str) -> list[Block]:
        """Tables of the metrics.

        Args:
            metrics: as in ``metrics.json``.
            unit: what is counted.
        """
        return []

    @classmethod
    def sections(cls, result: Any, unit: str) -> list[Section]:
        """Where the network is wrong, case by case; ``None`` for a result that can't be read."""
        return []

    @classmethod
    def case_blocks(cls, result: Any, unit: str) -> list[Block]:
        """A list of all cases, where that makes sense."""
        return []


def validation_name(name: str) -> str:
    """How a metric of the evaluator is called in the history: losses are told from those of the training."""
    return f"val_{name}" if name == "loss" or name.startswith("loss_") else name
