"""An orderly end of a run on SIGTERM or SIGINT."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events

# Signals of `interrupted_by_sigterm`: Python drops an exception that is raised in a callback of a weak reference.
_unheard: list[int] = []


class Interrupted(SystemExit):
    """The run was asked to end by a signal; the exit code is 128 + its number (143 for SIGTERM, 130 for SIGINT).

    Args:
        number: number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number


class GracefulSignals:
    """On SIGTERM and SIGINT lets the running batch end, then raises `Interrupted` out of the engine.

    It listens from the engine's start until its last handler: attach it after those that write the end of a run, which
    call `raise_if_pending` between their steps.

    Several processes end after the same training batch, whichever of them got the signal (one that left alone would
    keep the others waiting for it), or after a whole validation, whose length differs between processes. A second
    signal of the same kind acts at once, as if this handler weren't there.
    """

    numbers = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Any] = {}
        self._process = os.getpid()

    def attach(self, *engines: Engine) -> None:
        """Register with the trainer (first) and with the engines that run inside it.

        Args:
            engines: the trainer, then those engines; or an evaluator alone.
        """
        engines[0].add_event_handler(Events.STARTED, self.install)
        engines[0].add_event_handler(Events.COMPLETED, self._completed)
        engines[0].add_event_handler(Events.ITERATION_COMPLETED, self.raise_if_received)
        inside = Events.ITERATION_COMPLETED if idist.get_world_size() == 1 else Events.EPOCH_COMPLETED
        for engine in engines[1:]:
            engine.add_event_handler(inside, self.raise_if_received)

    def install(self) -> None:
        """Catch the signals (possible in the main thread only); twice is the same as once."""
        if self._previous:
            return
        self.received = self.received or next(iter(_unheard), None)
        if threading.current_thread() is threading.main_thread():
            self._process = os.getpid()
            for number in self.numbers:
                self._previous[number] = signal.signal(number, self._receive)

    def remove(self) -> None:
        """Restore the handlers of the signals."""
        for number, previous in self._previous.items():
            signal.signal(number, previous)
        self._previous = {}

    def pending(self) -> int:
        """Number of the signal that this process has received, or 0."""
        return self.received or 0

    def raise_if_pending(self) -> None:
        """End the run when a signal has come to this process; the others aren't asked.

        Raises:
            Interrupted: with the signal's number.
        """
        if self.received:
            raise Interrupted(self.received)

    def raise_if_received(self, engine: Engine) -> None:
        """End the run when a signal has come to any process.

        A collective call, unless the engine's step has put the largest number of all processes into
        ``engine.state.signal`` (see `monai_ext.engines.TrainingStep`).

        Args:
            engine: the engine that runs.

        Raises:
            Interrupted: with the signal's number.
        """
        number = self.pending()
        if idist.get_world_size() > 1:
            agreed = getattr(engine.state, "signal", None)
            number = int(idist.all_reduce(number, op="MAX") if agreed is None else agreed)
        if number:
            raise Interrupted(number)

    def _completed(self) -> None:
        """Forget no signal of the last moments: what comes after this engine would go on."""
        self.remove()
        self.raise_if_pending()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            # A data worker inherited this handler; SIGINT is for the main process, SIGTERM must end the worker.
            if number == signal.SIGTERM:
                os._exit(128 + number)
            return
        if self.received == number:
            signal.signal(number, self._previous.get(number) or signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self.received = number
        # Not logged: the signal may have come in the middle of a line of the log.
        said = f"{signal.Signals(number).name}: ending after this batch or file (once more to end now)\n"
        with contextlib.suppress(OSError):
            os.write(2, said.encode())


@contextlib.contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """Between several trainings, each with its own `GracefulSignals`: SIGTERM raises `Interrupted` at once.

    Raises:
        Interrupted: in the main thread, where the signal finds it; where Python drops it, by the next training or at
            the end.
    """
    process = os.getpid()

    def end(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:  # a data worker, which inherits this
            os._exit(128 + number)
        _unheard.append(number)
        raise Interrupted(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, end)
    try:
        yield
        if _unheard:
            raise Interrupted(_unheard[0])
    finally:
        signal.signal(signal.SIGTERM, previous)
        _unheard.clear()
