"""One validation or inference iteration: the number format of the training, and its way out of full memory."""

from __future__ import annotations

import logging
from typing import Any

import torch
from monai.engines import SupervisedEvaluator
from monai.engines.utils import IterationEvents
from monai.utils import CommonKeys as Keys

from monai_ext.engines.batches import Tensors, joined, moved, prepared_where_it_fits, split
from monai_ext.engines.memory import is_out_of_memory, release_cached_memory
from monai_ext.engines.precision import Autocast, one_autocast
from monai_ext.errors import UserError

logger = logging.getLogger(__name__)


class EvaluationStep:
    """``iteration_update`` of MONAI's `SupervisedEvaluator`: autocast on CPUs too, and smaller batches in full memory.

    A batch that doesn't fit is computed in halves (and these again); its output is the same but for rounding. What is
    not an image tensor, such as the path of a volume that the inferer reads itself, isn't split.

    Args:
        amp, precision: the number format, see `monai_ext.engines.autocast_dtype`.
        autocast: the number format, in place of the two.

    Raises:
        ConfigError: for two number formats.
        UserError: while it runs, when one sample doesn't fit.
    """

    def __init__(self, amp: bool | str = "auto", precision: str = "auto", autocast: Autocast | None = None) -> None:
        self.autocast = one_autocast(autocast, amp, precision)

    def __call__(self, engine: SupervisedEvaluator, batch: dict[str, Any]) -> dict[str, Any]:
        engine.state.output = {}  # the tensors of the step before would take their place through this one
        inputs, targets, fits = prepared_where_it_fits(engine, batch)
        output = engine.state.output = {Keys.IMAGE: inputs, Keys.LABEL: targets}
        with engine.mode(engine.network):
            output[Keys.PRED] = self._predicted(engine, inputs, fits)
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output

    def _predicted(self, engine: SupervisedEvaluator, inputs: Any, fits: bool) -> Tensors:
        device = engine.state.device
        dtype = self.autocast.dtype(device)
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            if not isinstance(inputs, torch.Tensor):
                return engine.inferer(inputs, engine.network)
            size = len(inputs) if fits else _halved(len(inputs))
            while True:
                try:
                    parts = (moved(part, device, engine.non_blocking) for part in split(inputs, size))
                    found = (engine.inferer(part, engine.network) for part in parts)
                    # Metrics compare the predictions with the labels, which stayed on the host.
                    return joined([each if fits else moved(each, "cpu") for each in found])
                except (RuntimeError, MemoryError) as error:
                    if not is_out_of_memory(error):
                        raise
                size = _halved(size)  # outside the except clause, whose exception holds what was computed


def _halved(size: int) -> int:
    release_cached_memory()
    if size == 1:
        raise UserError(
            "out of memory with one sample in validation or inference; use a smaller input or window, or another "
            "device (--val_device cpu in training, --device cpu in inference)"
        )
    logger.warning("out of memory with %d samples at once in validation or inference: retried in halves", size)
    return (size + 1) // 2
