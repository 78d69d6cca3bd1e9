"""What of the data wasn't predicted, beside predictions that have no table of their own."""

from __future__ import annotations

import logging
from pathlib import Path

from ignite.engine import Engine, Events

from monai_ext.io import write_json

logger = logging.getLogger("monai_ext")


class WriteLeftOut:
    """Writes ``left_out.json``, a sentence for each file that wasn't used (see `monai_ext.data.left_out.Found`).

    Args:
        output_dir: folder to write the file to.
    """

    def __init__(self, output_dir: str | Path) -> None:
        self.output_dir = Path(output_dir)

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator.

        Args:
            engine: the evaluator.
        """
        file = self.output_dir / "left_out.json"
        engine.add_event_handler(Events.COMPLETED, lambda engine: write_json(file, left_out_of(engine)))


def left_out_of(engine: Engine) -> list[str]:
    """What the list of an evaluator's data says that it left out, logged as warnings.

    Args:
        engine: the evaluator.
    """
    items = getattr(getattr(engine.state.dataloader, "dataset", None), "data", [])
    remarks = list(getattr(items, "left_out", ()))
    for remark in remarks:
        logger.warning("left out: %s", remark)
    return remarks
