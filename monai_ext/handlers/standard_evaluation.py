"""Evaluation of a checkpoint on the validation data of its fold, in a run folder of its own."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events

from monai_ext import runs
from monai_ext.errors import ConfigError, DataError
from monai_ext.handlers.data_summary import Data
from monai_ext.handlers.input_sheet import FILE as INPUTS
from monai_ext.handlers.input_sheet import draw_inputs
from monai_ext.handlers.mistakes import FILE as MISTAKES
from monai_ext.handlers.mistakes import draw_mistakes
from monai_ext.handlers.optional import failed_already, optional
from monai_ext.handlers.run_records import RunRecords
from monai_ext.handlers.slice_previews import SlicePreviews
from monai_ext.networks.checkpoints import first_names
from monai_ext.predictions.kind import Predictions, validation_name
from monai_ext.provenance import chose_epoch, seen_by_name
from monai_ext.renamed import renamed_argument

logger = logging.getLogger("monai_ext")


class StandardEvaluation:
    """Metrics with intervals, predictions, plots and a report of one evaluation.

    Args:
        run: the run folder to write.
        predictions: predictions of the evaluator, which give its key metric.
        data, class_names: see `RunRecords`.
        previews: keeps pictures of some predictions; ``None`` for none.
        allow_training_cases: whether cases that the network was trained on may be evaluated; their number is then told.
        outputs: old name of ``predictions``.

    Raises:
        ConfigError: without predictions.
        DataError: when the evaluator starts, before anything is written, for cases that the network was trained on, as
            its checkpoint says (see `LoadCheckpoint`, which stands before this handler).
    """

    def __init__(
        self,
        run: runs.RunFolder,
        predictions: Predictions | None = None,
        data: Data | None = None,
        class_names: Sequence[str] = (),
        previews: SlicePreviews | None = None,
        outputs: Predictions | None = None,
        allow_training_cases: bool = False,
    ) -> None:
        found = renamed_argument("StandardEvaluation", "outputs", outputs, "predictions", predictions)
        if found is None:
            raise ConfigError("StandardEvaluation: needs predictions, such as monai_ext.predictions.Classification")
        self.run = run
        self.previews = previews
        self.predictions = found
        self.allow_training_cases = allow_training_cases
        self.seen: dict[str, bool | None] = {}
        self.selection: dict[str, Any] | None = None
        self.training_cases: int | None = None
        self.records = RunRecords(run, "evaluate", data, class_names, found)

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator.

        Args:
            engine: the evaluator.
        """
        engine.add_event_handler(Events.STARTED, self._check_cases)
        if idist.get_rank() == 0:
            engine.add_event_handler(Events.STARTED, self._started)
            engine.add_event_handler(Events.COMPLETED, self._completed)
            engine.add_event_handler(Events.EXCEPTION_RAISED, self._failed)
            if self.previews is not None:
                self.previews.attach(engine)

    def _check_cases(self, engine: Engine) -> None:
        items = [item for part in self.records.data.values() for item in part]
        self.seen = seen_by_name(items, getattr(engine.state, "provenances", []))
        cases = list(dict.fromkeys(str(item["case"]) for item in items))
        chosen = chose_epoch(items, getattr(engine.state, "provenances", []))
        if chosen:
            told = f"The network's epoch was chosen by {len(chosen)} of the {len(cases)} cases"
            advice = "so these figures are optimistic. For figures that are not, train with --selection inner."
            self.selection = {"chosen_on": len(chosen), "optimistic": True, "sentence": f"{told}, {advice}"}
        trained = [case for case in cases if self.seen[case]]
        self.training_cases = len(trained) if any(self.seen[case] is not None for case in cases) else None
        if not trained:
            return
        found = f"{len(trained)} of the {len(cases)} cases were trained on ({first_names(trained)})"
        if not self.allow_training_cases:
            raise DataError(f"{found}; evaluate others (--section, --fold), or add --allow_training_cases true", None)
        logger.warning("%s: the metrics say nothing about new cases", found)

    def _started(self, engine: Engine) -> None:
        self.run.open()
        self.records.open_log()
        self.records.open(seed=None, first_epoch=None)
        with optional("the picture of the inputs"):
            loader: Any = engine.data_loader
            names, settings = self.records.class_names, self.records.settings
            self.run.update(warnings=draw_inputs(self.run / INPUTS, None, loader, names, settings))

    def _completed(self, engine: Engine) -> None:
        self.predictions.take(engine)
        self.predictions.write(self.run / "predictions", self.seen)
        scalars = {
            validation_name(name): value
            for name, value in engine.state.metrics.items()
            if isinstance(value, (int, float))
        }
        further = {"training_cases": self.training_cases, "selection": self.selection}
        self.records.metrics(None, 0, scalars, intervals=True, further=further)
        self.records.plot(None)
        if self.previews is not None:
            with optional("the preview of predictions"):
                self.records.preview(self.previews.figure(), 0)
        with optional("the picture of the mistakes"):
            part: Any = engine
            draw_mistakes(self.run / MISTAKES, part.network, self.predictions, part.data_loader)
        for name, value in scalars.items():
            logger.info("%s %.6f", name, value)
        if self.selection is not None:
            logger.warning("%s", self.selection["sentence"])
        report = self.records.finish(scalars, 0)
        if report is not None:
            logger.info("report: %s", report)

    def _failed(self, engine: Engine, error: BaseException) -> None:
        if self.run.path is not None:
            with failed_already():
                self.records.close(runs.FAILED)
        raise error
