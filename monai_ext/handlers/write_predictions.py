"""Predictions of new cases as files, whatever their kind."""

from __future__ import annotations

import logging
from pathlib import Path

import ignite.distributed as idist
from ignite.engine import Engine, Events

from monai_ext.handlers.write_left_out import left_out_of
from monai_ext.predictions.kind import Predictions
from monai_ext.predictions.writing import refuse_nonfinite
from monai_ext.provenance import mark, seen_by_name

logger = logging.getLogger("monai_ext")


class WritePredictions:
    """Collects the predictions of an evaluator and writes them at the end: all files, or none.

    Rows are in the order of the data, each case once, whatever the batches and the number of processes were. The first
    prediction that isn't finite ends the inference in its batch, with the name of the case. ``left_out`` in
    ``predictions.json`` has a sentence for each file that wasn't used (see `monai_ext.data.left_out`). The column
    ``seen_in_training`` says whether the network was trained on a case or its patient, where `LoadCheckpoint` knows.

    Args:
        predictions: such as `monai_ext.predictions.Classification`; its items have ``case`` and ``index``.
        output_dir: folder to write the files to.
    """

    def __init__(self, predictions: Predictions, output_dir: str | Path) -> None:
        self.predictions = predictions
        self.output_dir = Path(output_dir)

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator that decollates (its default).

        Args:
            engine: the evaluator.
        """
        engine.add_event_handler(Events.STARTED, self.predictions.reset)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _collect(self, engine: Engine) -> None:
        new = self.predictions.update((engine.state.batch, engine.state.output))
        refuse_nonfinite(record.name for record in new if not record.is_finite)

    def _write(self, engine: Engine) -> None:
        files = self.predictions.files()  # gathers over all processes
        if idist.get_rank() == 0:
            items = getattr(getattr(engine.state.dataloader, "dataset", None), "data", [])
            mark(files.tables.values(), seen_by_name(items, getattr(engine.state, "provenances", [])))
            files.documents.setdefault("predictions.json", {})["left_out"] = left_out_of(engine)
            files.write(self.output_dir)
            for name, rows in files.tables.items():
                logger.info("%d predictions: %s", len(rows), self.output_dir / name)
