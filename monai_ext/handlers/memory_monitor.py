"""Memory use of a run."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any

import psutil
import torch
from ignite.engine import Engine, Events

from monai_ext.errors import ConfigError

logger = logging.getLogger(__name__)
MIB = 2**20


class MemoryMonitor:
    """Samples memory in a thread while an engine runs.

    Args:
        interval: seconds between samples, above 0.

    Attributes:
        latest: the newest sample, in MiB: ``process`` (resident set with the loader processes), ``system_used``,
            and ``gpu`` (allocated by torch on the engine's device) where it runs on one.
        peaks: the largest value of each so far.

    Raises:
        ConfigError: for an interval of 0 or less.
    """

    def __init__(self, interval: float = 10.0) -> None:
        if interval <= 0:
            raise ConfigError(f"MemoryMonitor: interval must be > 0 seconds, got {interval}")
        self.interval = interval
        self.latest: dict[str, float] = {}
        self.peaks: dict[str, float] = {}
        self._device = torch.device("cpu")
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def attach(self, engine: Engine) -> None:
        """Register with an engine.

        Args:
            engine: the engine during whose run memory is sampled.
        """
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.COMPLETED, self.stop)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.sample)

    def start(self, engine: Engine) -> None:
        """Begin sampling, on the engine's device.

        Args:
            engine: the engine, whose ``state.device`` is sampled too if it is a GPU.
        """
        self._device = torch.device(getattr(engine.state, "device", None) or "cpu")
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)  # an earlier run in this process may have taken more
        if self._thread is None:
            self._stop.clear()
            self._thread = threading.Thread(target=self._run, name="memory-monitor", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End sampling."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
            self._thread = None

    def sample(self) -> dict[str, float]:
        """Measure now."""
        process = psutil.Process()
        resident = process.memory_info().rss
        for child in process.children(recursive=True):
            try:
                resident += child.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        sample: dict[str, Any] = {"process": resident / MIB, "system_used": psutil.virtual_memory().used / MIB}
        if self._device.type == "cuda":
            sample["gpu"] = torch.cuda.max_memory_allocated(self._device) / MIB
        self.latest = {name: round(value, 1) for name, value in sample.items()}
        for name, value in self.latest.items():
            self.peaks[name] = max(value, self.peaks.get(name, 0.0))
        return self.latest

    def state_dict(self) -> dict[str, float]:
        """The peaks."""
        return dict(self.peaks)

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Go on from the peaks of a resumed run.

        Args:
            state: what `state_dict` returned.
        """
        for name, value in state.items():
            self.peaks[name] = max(value, self.peaks.get(name, 0.0))

    def _run(self) -> None:
        while not self._stop.wait(self.interval):
            try:
                logger.debug("memory in MiB: %s", self.sample())
            except psutil.Error as error:
                logger.warning("memory can't be measured: %s", error)
                return
