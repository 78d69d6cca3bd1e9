"""Random numbers of the training step as a function of seed and iteration."""

from __future__ import annotations

import ignite.distributed as idist
import numpy as np
from ignite.engine import Engine, Events

from monai_ext.workflow import seed_everything


class IterationSeeding:
    """Seed Python, NumPy and torch before every iteration from ``(seed, iteration, rank)``.

    Dropout and batch augmentations then draw the same numbers in a resumed run as in an undisturbed one, without any
    generator's state being restored, and whatever the data loader did in between.

    Args:
        seed: seed of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def attach(self, engine: Engine) -> None:
        """Register with a trainer.

        Args:
            engine: the trainer.
        """
        engine.add_event_handler(Events.ITERATION_STARTED, self.apply)

    def apply(self, engine: Engine) -> None:
        """Seed for the iteration that begins.

        Args:
            engine: the trainer, at the start of an iteration.
        """
        sequence = np.random.SeedSequence((self.seed, engine.state.iteration, idist.get_rank()))
        seed_everything(int(sequence.generate_state(1, np.uint64)[0]))
