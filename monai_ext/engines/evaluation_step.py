"""One validation or inference iteration: the training's number format, and smaller batches if memory runs out."""

from __future__ import annotations

from typing import Any

import torch
from monai.engines import SupervisedEvaluator
from monai.engines.utils import IterationEvents
from monai.utils import CommonKeys as Keys

from monai_ext.engines.batches import Tensors, joined, moved, prepared_where_it_fits
from monai_ext.engines.precision import Autocast, one_autocast
from monai_ext.memory import in_halves

_ADVICE = "use a smaller input or window, or another device (--val_device cpu in training, --device cpu in inference)"


class EvaluationStep:
    """``iteration_update`` of MONAI's `SupervisedEvaluator`: autocast on CPUs too, smaller batches if memory runs out.

    A batch that doesn't fit is computed in halves (and these again); its output is the same but for rounding. Other
    inputs than image tensors, such as the path of a volume that the inferer reads itself, aren't split.

    Args:
        amp, precision: the number format, see `monai_ext.engines.autocast_dtype`.
        autocast: the number format, in place of the two.

    Raises:
        ConfigError: for two number formats.
        FullMemoryError: while it runs, when one sample doesn't fit.
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

            def compute(start: int, stop: int) -> Any:
                output = engine.inferer(moved(inputs[start:stop], device, engine.non_blocking), engine.network)
                # Metrics compare the predictions with the labels, which stayed on the host.
                return output if fits else moved(output, "cpu")

            return joined(in_halves(compute, len(inputs), len(inputs) if fits else (len(inputs) + 1) // 2, _ADVICE))
