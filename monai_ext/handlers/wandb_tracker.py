"""A run's settings, curves, pictures and end in Weights & Biases."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai_ext.errors import ConfigError
from monai_ext.handlers.optional import optional
from monai_ext.handlers.tracking import finite_numbers

_WHAT = "the entry for Weights & Biases"


class WandbTracker:
    """One run of W&B for one training run; the load of the machine is sampled by W&B itself.

    W&B's own variables hold, such as ``WANDB_MODE=offline``. Its reports of its own errors to its makers are off, and
    so is its copy of the console. Once it has begun, an error costs a warning.

    Args:
        folder: folder of the run; W&B writes below ``wandb``.
        project: name of the project.
        name: displayed name of the run.
        group: name of what the run is a part of, such as a cross-validation.
        run_id: existing run to continue; ``None`` for a new one.

    Raises:
        ConfigError: when W&B can't begin, without an account, say.
    """

    def __init__(
        self, folder: str | Path, project: str, name: str, group: str | None = None, run_id: str | None = None
    ) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # read when it is imported
        import wandb

        try:
            self._run = wandb.init(
                project=project,
                name=name,
                group=group,
                id=run_id,
                resume="allow",
                dir=str(folder),
                settings=wandb.Settings(console="off", silent=True),
            )
        except Exception as error:  # W&B's errors, and those of the network below
            reason = next(iter(str(error).splitlines()), "") or type(error).__name__
            raise ConfigError(
                f"--trackers wandb: W&B can't begin a run ({reason}); set WANDB_MODE=offline, log in by `wandb login`, "
                "or leave it out"
            ) from error

    @property
    def run_id(self) -> str:
        """W&B's id of the run."""
        return str(self._run.id)

    def parameters(self, values: Mapping[str, Any]) -> None:
        """See `Tracker`."""
        with optional(_WHAT):
            self._run.config.update(dict(values), allow_val_change=True)

    def metrics(self, values: Mapping[str, Any], step: int) -> None:
        """See `Tracker`."""
        with optional(_WHAT):
            self._run.log(finite_numbers(values), step=step)

    def picture(self, name: str, path: Path, step: int) -> None:
        """See `Tracker`."""
        import wandb

        with optional(_WHAT):
            self._run.log({name: wandb.Image(str(path))}, step=step)

    def best(self, values: Mapping[str, Any]) -> None:
        """See `Tracker`."""
        with optional(_WHAT):
            self._run.summary.update(dict(values))

    def finish(self, status: str) -> None:
        """See `Tracker`; waits until W&B has uploaded what it has."""
        with optional(_WHAT):
            self._run.finish(exit_code=0 if status == "FINISHED" else 1)
