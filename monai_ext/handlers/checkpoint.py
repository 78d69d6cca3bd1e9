"""Checkpoints that a kill or a full disk can't destroy, and resuming from them."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from monai_ext.errors import WeightsError
from monai_ext.io import atomic_path
from monai_ext.networks import compare_settings, read_checkpoint, save_checkpoint

logger = logging.getLogger(__name__)

LAST, PREVIOUS = "last.pt", "last_previous.pt"


class Checkpoints:
    """Writes and reads the checkpoints of a run folder.

    ``last.pt`` holds everything a resumed run needs, ``last_previous.pt`` the one before, and each best file the
    network alone with its metrics, settings and thresholds. All load with ``weights_only=True``, on any machine.

    Args:
        folder: folder of the checkpoints.
        network: the network itself, not a multi-process wrapper.
        parts: other objects saved in ``last.pt``, by name; each has ``state_dict`` and ``load_state_dict``.
        settings: settings that change the network's function without changing its keys, plain values.
        provenance: what the network is trained on, see `monai_ext.provenance.provenance_of`.
    """

    def __init__(
        self,
        folder: str | Path,
        network: torch.nn.Module,
        parts: Mapping[str, Any],
        settings: Mapping[str, Any] | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.network = network
        self.parts = dict(parts)
        self.settings = dict(settings or {})
        self.provenance = dict(provenance or {})

    def save_last(self, trainer: Mapping[str, int], handlers: Mapping[str, Any], history: list[dict[str, Any]]) -> None:
        """Write ``last.pt``; what was there becomes ``last_previous.pt``.

        Args:
            trainer: ``epoch`` and ``iteration`` reached, ``epoch_length``.
            handlers: states of the handlers, plain values.
            history: one entry per epoch, plain values.

        Raises:
            WriteError: naming the file (a full disk, say); the old files stay.
        """
        content = {
            "model": self.network.state_dict(),
            **{name: part.state_dict() for name, part in self.parts.items()},
            "trainer": dict(trainer),
            "handlers": dict(handlers),
            "history": history,
            "rng": _generator_states(),
            "settings": self.settings,
            "provenance": self.provenance,
        }
        last = self.folder / LAST
        with atomic_path(last) as temporary:
            save_checkpoint(content, temporary)
            if last.exists():
                os.replace(last, self.folder / PREVIOUS)

    def save_best(
        self, name: str, metrics: Mapping[str, Any], epoch: int, extras: Mapping[str, Any] | None = None
    ) -> Path:
        """Write ``<name>.pt`` with the weights, metrics, settings and plain ``extras``, without the optimizer.

        Args:
            name: name of the file, without suffix.
            metrics: metrics by name; only numbers are kept.
            epoch: number of the epoch, from 1.
            extras: further entries, plain values.

        Raises:
            WriteError: when the file can't be written.
        """
        path = self.folder / f"{name}.pt"
        content = {
            **(extras or {}),
            "model": self.network.state_dict(),
            "metrics": {key: value for key, value in metrics.items() if isinstance(value, (int, float))},
            "epoch": epoch,
            "settings": self.settings,
            "provenance": self.provenance,
        }
        with atomic_path(path) as temporary:
            save_checkpoint(content, temporary)
        return path

    def load_last(self) -> dict[str, Any] | None:
        """Restore network and parts from the newest checkpoint that can be read.

        Returns:
            the checkpoint's remaining content, or ``None`` when there is no checkpoint yet.

        Raises:
            WeightsError: when checkpoints exist but none can be read, or when their settings differ.
        """
        existing = [path for path in (self.folder / LAST, self.folder / PREVIOUS) if path.exists()]
        for path in existing:
            try:
                content = read_checkpoint(path)
            except WeightsError as error:
                logger.warning("%s; falling back to the checkpoint before", error)
                continue
            compare_settings(content.get("settings", {}), self.settings, path)
            self.network.load_state_dict(content["model"])
            for name, part in self.parts.items():
                if content[name]:  # a GradScaler that was off (a CPU's, say) has saved nothing
                    part.load_state_dict(content[name])
            return content
        if existing:
            raise WeightsError(f"{self.folder}: none of its checkpoints can be read; start a new run without --resume")
        return None


def _generator_states() -> dict[str, Any]:
    """States of the global generators, as tensors and numbers.

    A resumed run doesn't need them (see `monai_ext.handlers.IterationSeeding`); they are kept for inspection.
    """
    _, keys, position, *_ = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "numpy": [int(key) for key in keys] + [int(position)],
        "python": list(random.getstate()[1]),
    }
