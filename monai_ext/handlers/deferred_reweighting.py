"""Class weights that come into force in the middle of training."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events

from monai_ext.errors import ConfigError
from monai_ext.handlers.engine_parts import part_of
from monai_ext.losses import drw_weights

logger = logging.getLogger(__name__)


class DeferredReweighting:
    """Deferred re-weighting (DRW): train without class weights first, with them from ``start_epoch`` on.

    Cao et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss", NeurIPS 2019,
    https://arxiv.org/abs/1906.07413. The switch is a function of the epoch alone, so it survives a resume.

    Args:
        loss: a loss with a ``weight`` (`monai_ext.losses.LDAMLoss`, `torch.nn.CrossEntropyLoss`); default: the
            trainer's.
        class_counts: samples per class in the training data, all > 0.
        start_epoch: first epoch (from 1) with weights; 0 or 1 for all epochs, ``None`` for never: then the loss, which
            needs no ``weight``, stays as it is.
        scheme: ``"sqrt"`` or ``"effective_number"``, see `monai_ext.losses.drw_weights`.
        beta: β of the effective number, in [0, 1).
        epoch: for an evaluation, the epoch of the checkpoint, see `monai_ext.networks.saved_epoch`, so that the loss is
            the one that was trained with; default: the engine's own.
        device: of the weights, which has to be that of the logits; default: the trainer's, and for a plain Ignite
            engine, which knows none, Ignite's own (`ignite.distributed.device`).

    Raises:
        ConfigError: for a loss without a ``weight``; when the training starts without any ``loss``.
        ValueError: see `monai_ext.losses.drw_weights`.
    """

    def __init__(
        self,
        loss: torch.nn.Module | None = None,
        class_counts: Sequence[int] = (),
        start_epoch: int | None = 15,
        scheme: str = "sqrt",
        beta: float = 0.9999,
        epoch: float | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        self.loss = loss if loss is None or start_epoch is None else _with_weight(loss)
        self.start_epoch = start_epoch
        self.epoch = epoch
        self.device = device
        self.weights = drw_weights(class_counts, scheme, beta)

    def attach(self, engine: Engine) -> None:
        """Register with a trainer.

        Args:
            engine: the trainer.
        """
        if self.start_epoch is None:
            return
        engine.add_event_handler(Events.STARTED, self._started)
        engine.add_event_handler(Events.EPOCH_STARTED, self.apply)

    def _started(self, engine: Engine) -> None:
        if self.loss is None:
            self.loss = _with_weight(part_of(engine, "loss_function", "DeferredReweighting"))

    def apply(self, engine: Engine) -> None:
        """Set or clear the weights for the epoch that begins.

        Args:
            engine: the trainer, at the start of an epoch.
        """
        assert self.loss is not None
        assert self.start_epoch is not None
        epoch = engine.state.epoch if self.epoch is None else self.epoch
        active = epoch >= self.start_epoch
        if active and self.loss.weight is None:
            logger.info("epoch %g: class weights %s", epoch, [round(w, 6) for w in self.weights.tolist()])
        device = self.device or getattr(engine.state, "device", None) or idist.device()
        weight = self.weights.to(device=device, dtype=torch.float32) if active else None
        setattr(self.loss, "weight", weight)  # noqa: B010  (a property or buffer: to a type checker it is a module)


def _with_weight(loss: torch.nn.Module) -> torch.nn.Module:
    if not hasattr(loss, "weight"):
        name = type(loss).__name__
        raise ConfigError(f"DeferredReweighting: {name} has no weight to set; give it one, or --drw_start_epoch None")
    return loss
