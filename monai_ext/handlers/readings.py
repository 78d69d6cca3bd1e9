"""How the files of a training were understood."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ignite.engine import Engine, Events

from monai_ext.predictions.collecting import gathered


class Readings:
    """Keeps ``reading`` of every case in the batches of one or more engines, where the data have it.

    Only reading a file tells how it is to be understood, so this is known of the cases that were in a batch.
    """

    def __init__(self) -> None:
        self._found: dict[str, str] = {}

    def attach(self, *engines: Engine) -> None:
        """Register with trainer and evaluator.

        Args:
            engines: whose batches have ``case`` and perhaps ``reading``, decollated or not.
        """
        for engine in engines:
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._take)

    def take(self) -> dict[str, str]:
        """Case → reading, of all processes, since the last call; a collective call."""
        found, self._found = self._found, {}
        return dict(gathered(list(found.items())))

    def _take(self, engine: Engine) -> None:
        self._found.update(_readings(engine.state.batch))


def _readings(batch: Any) -> Iterator[tuple[str, str]]:
    if isinstance(batch, list):
        for item in batch:
            if isinstance(item, Mapping) and "reading" in item:
                yield item["case"], item["reading"]
    elif isinstance(batch, Mapping) and "reading" in batch:
        yield from zip(batch["case"], batch["reading"], strict=True)
