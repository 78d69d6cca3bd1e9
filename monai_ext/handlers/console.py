"""Console output during a training."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from typing import Any

from ignite.engine import Engine, Events
from ignite.handlers import ProgressBar

from monai_ext.handlers.history import NOT_METRICS

logger = logging.getLogger("monai_ext")

# Entries for the files only, not for the console line of an epoch.
_HIDDEN = NOT_METRICS - {"seconds"}


class Console:
    """A progress bar over the batches (on a terminal) and one line per epoch; losses with six decimals, and the time
    that all further epochs take, if they take as long as those so far.

    Args:
        parts: name of a case's instances (slices, crops), if any: their metrics are written to files only.
    """

    def __init__(self, parts: str | None = None) -> None:
        self.parts = parts
        self._begun = 0.0
        self._epochs = 0

    def attach(self, engine: Engine) -> None:
        """Register with a trainer, on the main process only."""
        # disable=None: tqdm leaves the bar out where standard error is no terminal (log files, CI).
        bar = ProgressBar(persist=False, disable=None)
        bar.attach(engine, output_transform=_RecentLoss())
        engine.add_event_handler(Events.STARTED, self._started)

    def epoch(self, entry: Mapping[str, Any], max_epochs: int, is_best: bool) -> None:
        """Log the line of an epoch."""
        kept = {name: value for name, value in entry.items() if name not in _HIDDEN and not self._of_parts(name)}
        shown = " | ".join(f"{name} {_format(name, value)}" for name, value in kept.items())
        best = " | best so far" if is_best else ""
        left = self._left(max_epochs - entry["epoch"])
        logger.info("epoch %d/%d | lr %.3g | %s%s%s", entry["epoch"], max_epochs, entry["lr"], shown, best, left)

    def _started(self) -> None:
        self._begun, self._epochs = time.monotonic(), 0

    def _left(self, epochs: int) -> str:
        self._epochs += 1
        if epochs <= 0:
            return ""
        minutes = math.ceil((time.monotonic() - self._begun) / self._epochs * epochs / 60)
        hours, rest = divmod(minutes, 60)
        return f" | about {f'{hours} h ' if hours else ''}{rest} min left"

    def _of_parts(self, name: str) -> bool:
        return self.parts is not None and name.startswith(f"{self.parts}_")


class _RecentLoss:
    """A loss for the bar, read a few times a second: to read it is to wait for the device."""

    seconds = 0.3

    def __init__(self) -> None:
        self._shown: dict[str, float] = {}
        self._due = 0.0

    def __call__(self, output: Any) -> dict[str, float]:
        if time.monotonic() >= self._due:
            self._shown = {"loss": float((output[0] if isinstance(output, list) else output)["loss"])}
            self._due = time.monotonic() + self.seconds
        return self._shown


def _format(name: str, value: Any) -> str:
    if name == "seconds":
        return f"{value:.1f}"
    return f"{value:.6f}" if "loss" in name.split("_") else f"{value:.4f}"
