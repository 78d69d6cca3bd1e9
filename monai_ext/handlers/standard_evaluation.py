"""Evaluation of a checkpoint on the validation data of its fold, in a run folder of its own."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import ignite.distributed as idist
from ignite.engine import Engine, Events

from monai_ext import runs
from monai_ext.errors import ConfigError
from monai_ext.handlers.data_summary import Data
from monai_ext.handlers.run_records import RunRecords
from monai_ext.handlers.slice_previews import SlicePreviews
from monai_ext.predictions.kind import Predictions, validation_name
from monai_ext.renamed import renamed_argument

logger = logging.getLogger("monai_ext")


class StandardEvaluation:
    """Metrics with intervals, predictions, plots and a report of one evaluation.

    Args:
        run: the run folder to write.
        predictions: predictions of the evaluator, which give its key metric.
        data, class_names: see `RunRecords`.
        previews: keeps pictures of some predictions; ``None`` for none.
        outputs: old name of ``predictions``.

    Raises:
        ConfigError: without predictions.
    """

    def __init__(
        self,
        run: runs.RunFolder,
        predictions: Predictions | None = None,
        data: Data | None = None,
        class_names: Sequence[str] = (),
        previews: SlicePreviews | None = None,
        outputs: Predictions | None = None,
    ) -> None:
        found = renamed_argument("StandardEvaluation", "outputs", outputs, "predictions", predictions)
        if found is None:
            raise ConfigError("StandardEvaluation: needs predictions, such as monai_ext.predictions.Classification")
        self.run = run
        self.previews = previews
        self.predictions = found
        self.records = RunRecords(run, "evaluate", data, class_names, found)

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator.

        Args:
            engine: the evaluator.
        """
        if idist.get_rank() == 0:
            engine.add_event_handler(Events.STARTED, self._started)
            engine.add_event_handler(Events.COMPLETED, self._completed)
            engine.add_event_handler(Events.EXCEPTION_RAISED, self._failed)
            if self.previews is not None:
                self.previews.attach(engine)

    def _started(self) -> None:
        self.run.open()
        self.records.open_log()
        self.records.open(seed=None, first_epoch=None)

    def _completed(self, engine: Engine) -> None:
        self.predictions.take(engine)
        self.predictions.write(self.run / "predictions")
        scalars = {
            validation_name(name): value
            for name, value in engine.state.metrics.items()
            if isinstance(value, (int, float))
        }
        self.records.metrics(None, 0, scalars, intervals=True)
        self.records.plot(None)
        if self.previews is not None:
            self.records.preview(self.previews.figure(), 0)
        for name, value in scalars.items():
            logger.info("%s %.6f", name, value)
        logger.info("report: %s", self.records.finish(scalars, 0))

    def _failed(self, engine: Engine, error: BaseException) -> None:
        if self.run.path is not None:
            self.records.close(runs.FAILED)
        raise error
