"""MLflow's system metrics of a run: CPU, memory, disk, network, and GPU where its package is installed."""

from __future__ import annotations

import logging
import threading
import time

logger = logging.getLogger(__name__)


class SystemMetrics:
    """Samples in a thread of its own, which asks no server for anything: MLflow's would, at each sample.

    MLflow's own variables hold: ``MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL`` (seconds, 10) and
    ``MLFLOW_SYSTEM_METRICS_SAMPLES_BEFORE_LOGGING`` (samples of a mean, 1).
    """

    def __init__(self) -> None:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        # Its client is never used; by default it would make a store in the current folder.
        self._source = SystemMetricsMonitor("", tracking_uri="http://localhost")
        self._samples: list[tuple[int, dict[str, float]]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="system metrics", daemon=True)
        self._thread.start()

    def take(self) -> list[tuple[int, dict[str, float]]]:
        """What has been sampled since the last call: milliseconds since 1970, and values by name."""
        samples, self._samples = self._samples, []
        return samples

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        count = 0
        try:
            while not self._stop.wait(self._source.sampling_interval):
                self._source.collect_metrics()
                count += 1
                if count % self._source.samples_before_logging == 0:
                    found = self._source.aggregate_metrics()
                    values = {f"system/{name}": float(value) for name, value in found.items()}
                    self._samples.append((int(time.time() * 1000), values))
                    for monitor in self._source.monitors:
                        monitor.clear_metrics()
        except Exception as error:  # a sensor that fails is no reason to end a training
            logger.warning("system metrics: %s: %s; there are none from now on", type(error).__name__, error)
