"""A training that can't fit the memory is refused before its first step."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from ignite.engine import Engine, Events

from monai_ext.memory import FullMemoryError, free_memory
from monai_ext.networks.footprint import training_footprint

logger = logging.getLogger("monai_ext")
GIB = 2**30
# Gradients, and the two moments of Adam.
_COPIES_OF_WEIGHTS = 3


class MemoryCheck:
    """Refuses a training whose first batch needs more memory than is free, instead of being killed in it.

    What the forward pass keeps is counted for the shape of the first batch, see
    `monai_ext.networks.training_footprint`; in mixed precision half of it. The count is a lower bound: a training that
    passes may still be too large. Where the step retries a batch in halves, as on a GPU, too large a batch is a
    warning, and only a single sample that doesn't fit is refused.

    Args:
        network: the network itself, not a multi-process wrapper.

    Raises:
        FullMemoryError: as the first batch arrives; with the batch size that fits.
    """

    def __init__(self, network: torch.nn.Module) -> None:
        self.network = network

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.ITERATION_STARTED(once=1), self._check)

    def _check(self, engine: Engine) -> None:
        batch: Any = engine.state.batch
        image = batch.get("image") if isinstance(batch, Mapping) else None
        if not isinstance(image, torch.Tensor):
            return
        try:
            footprint = training_footprint(self.network, image.shape)
        except Exception as error:
            # A wrong size is reported by the step itself, which computes the same.
            logger.debug("the memory of a step can't be counted: %s", error)
            return
        step: Any = engine._process_function
        dtype = step.autocast.dtype(engine.state.device) if hasattr(step, "autocast") else None
        activations = footprint.activations // (1 if dtype is None or dtype is torch.float32 else 2)
        fixed = _COPIES_OF_WEIGHTS * footprint.weights
        free = free_memory(engine.state.device)
        if fixed + activations <= free:
            return
        count = image.shape[0]
        fitting = int((free - fixed) * count // max(activations, 1))
        sentence = (
            f"a training step of {count} samples needs at least {(fixed + activations) / GIB:.1f} GiB on "
            f"{engine.state.device}, where {free / GIB:.1f} GiB are free"
        )
        if fitting < 1:
            raise FullMemoryError(f"{sentence}, and one sample doesn't fit either; train on smaller inputs")
        advice = f"--batch_size {fitting} fits (with --accumulate {-(-count // fitting)} a step sees as many samples)"
        if engine.state.device.type == "cpu" or getattr(step, "on_oom", "stop") != "halve":
            raise FullMemoryError(f"{sentence}; {advice}")
        logger.warning("%s: batches are retried in halves; %s", sentence, advice)
