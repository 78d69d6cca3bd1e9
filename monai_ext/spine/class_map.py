"""The class names of a classifier's outputs, beside its checkpoints."""

from __future__ import annotations

from collections.abc import Sequence

import ignite.distributed as idist
from ignite.engine import Engine, Events

from monai_ext import runs
from monai_ext.spine import save_class_map

FILE = "class_map.json"


class SaveClassMap:
    """Writes ``checkpoints/class_map.json`` of a run when it starts; nothing for a network without classes.

    Args:
        run: the run folder, opened by an earlier handler (`StandardTraining`).
        class_names: in the order of the network's outputs; none for a segmentation.
    """

    def __init__(self, run: runs.RunFolder, class_names: Sequence[str]) -> None:
        self.run = run
        self.class_names = list(class_names)

    def attach(self, engine: Engine) -> None:
        """Register with a trainer.

        Args:
            engine: the trainer.
        """
        if self.class_names and idist.get_rank() == 0:
            engine.add_event_handler(Events.STARTED, self._save)

    def _save(self) -> None:
        save_class_map(self.run / "checkpoints" / FILE, self.class_names)
