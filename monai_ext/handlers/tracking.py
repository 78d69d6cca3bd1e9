"""What a run hands to its trackers, and which they are."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from monai_ext.errors import ConfigError

KNOWN = ("mlflow", "tensorboard", "wandb")


class Tracker(Protocol):
    """What every tracker takes of a training."""

    def parameters(self, values: Mapping[str, Any]) -> None:
        """Keep the settings.

        Args:
            values: by name.
        """

    def metrics(self, values: Mapping[str, Any], step: int) -> None:
        """Keep the finite numbers among the values.

        Args:
            values: by name.
            step: number of the epoch, from 1.
        """

    def picture(self, name: str, path: Path, step: int) -> None:
        """Keep a PNG file.

        Args:
            name: name of the series of pictures.
            path: path of the file.
            step: number of the epoch, from 1.
        """

    def best(self, values: Mapping[str, Any]) -> None:
        """Keep the numbers that sum the run up.

        Args:
            values: by name, such as ``best_auc``.
        """

    def finish(self, status: str) -> None:
        """Write the end state.

        Args:
            status: MLflow's word: ``"FINISHED"``, ``"FAILED"`` or ``"KILLED"``.
        """


def finite_numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers among the values, by name.

    Args:
        values: of any kind, by name.
    """
    return {k: v for k, v in values.items() if isinstance(v, (int, float)) and math.isfinite(v)}


@dataclass(frozen=True)
class Tracking:
    """The settings of tracking, as the bundles have them.

    Args:
        tracking_uri, experiment_name, parent_run_id: see `MLflowTracker`; the word ``none`` as URI switches MLflow off.
        log_model: whether MLflow gets the best network as a model.
        system_metrics: whether MLflow gets `SystemMetrics`.
        register: name of the registered model of which the network becomes a version; ``None`` for none.
        trackers: any of ``"mlflow"``, ``"tensorboard"``, ``"wandb"``, in a list or with commas between them.

    Raises:
        ConfigError: for a tracker that is unknown or not installed.
    """

    tracking_uri: str = "none"
    experiment_name: str = "monai_experiment"
    parent_run_id: str | None = None
    log_model: bool = True
    system_metrics: bool = True
    register: str | None = None
    trackers: str | Sequence[str] = ("mlflow", "tensorboard")

    def __post_init__(self) -> None:
        unknown = [name for name in self.chosen if name not in KNOWN]
        if unknown:
            raise ConfigError(f"--trackers {unknown[0]}: no such tracker; name one or more of {', '.join(KNOWN)}")
        if "wandb" in self.chosen and importlib.util.find_spec("wandb") is None:
            raise ConfigError("--trackers wandb: isn't installed: pip install 'monai-ext[wandb]', or leave it out")

    @property
    def chosen(self) -> tuple[str, ...]:
        """Names of the trackers."""
        names = self.trackers.split(",") if isinstance(self.trackers, str) else self.trackers
        return tuple(name.strip() for name in names)

    @property
    def mlflow(self) -> bool:
        """Whether the run is tracked by MLflow."""
        return "mlflow" in self.chosen and str(self.tracking_uri).lower() != "none"

    def of_run(self) -> dict[str, Any]:
        """Arguments of `MLflowTracker` that don't depend on the run."""
        names = ("tracking_uri", "experiment_name", "parent_run_id")
        return {name: getattr(self, name) for name in names}
