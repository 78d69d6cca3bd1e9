"""What a run hands to its trackers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Tracking:
    """The settings of tracking, as the bundles have them.

    Args:
        tracking_uri, experiment_name, parent_run_id: see `MLflowTracker`; the word ``none`` as URI switches MLflow off.
        log_model: whether MLflow gets the best network as a model.
        system_metrics: whether MLflow gets `SystemMetrics`.
        register: name of the registered model of which it becomes a version; ``None`` for none.
    """

    tracking_uri: str = "none"
    experiment_name: str = "monai_experiment"
    parent_run_id: str | None = None
    log_model: bool = True
    system_metrics: bool = True
    register: str | None = None

    @property
    def mlflow(self) -> bool:
        """Whether the run is tracked by MLflow."""
        return str(self.tracking_uri).lower() != "none"

    def of_run(self) -> dict[str, Any]:
        """Arguments of `MLflowTracker` that don't depend on the run."""
        names = ("tracking_uri", "experiment_name", "parent_run_id")
        return {name: getattr(self, name) for name in names}
