"""One training iteration that survives bad batches: what a handler would learn of too late."""

from __future__ import annotations

import contextlib
import logging
from typing import Any

import ignite.distributed as idist
import torch
import torch.distributed as dist
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.utils import CommonKeys as Keys

from monai_ext.engines.batches import Tensors, detached, joined, split
from monai_ext.engines.precision import autocast_dtype
from monai_ext.errors import ConfigError, UserError

logger = logging.getLogger(__name__)


class TrainingError(UserError):
    """Training can't go on: too many non-finite losses, or a batch that doesn't fit the memory."""


class _Skipped(Exception):
    """This batch is left out; says why, and whether it counts as non-finite."""

    def __init__(self, reason: str, nonfinite: bool = True) -> None:
        super().__init__(reason)
        self.nonfinite = nonfinite


class TrainingStep:
    """``iteration_update`` of MONAI's `SupervisedTrainer`, with guards.

    Beyond MONAI's own iteration: autocast on CPUs too; gradients clipped after unscaling; the last, incomplete
    accumulation of an epoch weighted by its own length; a batch with a non-finite loss or gradient skipped without a
    trace, batch-norm buffers included; a batch that doesn't fit the memory retried in halves.

    The output is MONAI's (image, label, pred, loss); a skipped batch has ``loss`` NaN, and neither ``pred`` nor
    ``label`` when it did not fit the memory. Labels and predictions are tensors, or dicts of target → tensor. A loss
    with the attribute ``terms`` (name → value, such as `monai_ext.losses.MultiTargetLoss`) adds ``loss_<name>``.

    Args:
        amp, precision: see `monai_ext.engines.autocast_dtype`.
        grad_clip: largest norm of the gradient over all parameters; ``None`` for no limit.
        accumulate: batches per optimizer step.
        nonfinite_limit: number of skipped batches in a run after which training stops with an error.
        on_oom: ``"halve"`` retries a batch in two halves (and these again), weighting their losses by size: batch
            statistics and losses normalised over the batch then see the halves; ``"skip"`` leaves the batch out;
            ``"stop"`` ends with the batch size to try. With several processes it is always ``"stop"``: one rank's
            retry would desert the others in the middle of their common reduction.

    Raises:
        TrainingError: while training, as said above.
    """

    def __init__(
        self,
        amp: bool | str = "auto",
        precision: str = "auto",
        grad_clip: float | None = None,
        accumulate: int = 1,
        nonfinite_limit: int = 10,
        on_oom: str = "halve",
    ) -> None:
        if accumulate < 1:
            raise ConfigError(f"--accumulate {accumulate}: must be at least 1")
        if on_oom not in ("halve", "skip", "stop"):
            raise ConfigError(f"on_oom {on_oom!r}: unknown (choices: halve, skip, stop)")
        self.amp = amp
        self.precision = precision
        self.grad_clip = grad_clip
        self.accumulate = accumulate
        self.nonfinite_limit = nonfinite_limit
        self.on_oom = on_oom
        self.events: list[str] = []
        self.nonfinite = 0
        self.scaler = torch.amp.GradScaler(enabled=False)
        self._dtype: torch.dtype | None = None
        self._buffers: _Buffers | None = None

    def state_dict(self) -> dict[str, Any]:
        """Counts and messages of the skipped batches; the scaler's state lies in ``scaler``."""
        return {"nonfinite": self.nonfinite, "events": list(self.events)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over `state_dict` of another step."""
        self.nonfinite, self.events = state["nonfinite"], list(state["events"])

    def prepare(self, engine: SupervisedTrainer) -> None:
        """Choose the number format for the engine's device, and move the loss's own tensors there, such as weights of
        classes, which MONAI leaves where they are; called once, before the first step.
        """
        if isinstance(engine.loss_function, torch.nn.Module):
            engine.loss_function.to(engine.state.device)
        self._dtype = autocast_dtype(engine.state.device, self.amp, self.precision)
        self.scaler = torch.amp.GradScaler(enabled=self._dtype == torch.float16)
        self._buffers = _Buffers(engine.network)

    def __call__(self, engine: SupervisedTrainer, batch: dict[str, Any]) -> dict[str, Any] | list[dict[str, Any]]:
        if self._buffers is None:
            self.prepare(engine)
        assert self._buffers is not None
        position = (engine.state.iteration - 1) % engine.state.epoch_length
        first = position - position % self.accumulate
        window = min(self.accumulate, engine.state.epoch_length - first)
        last = position == first + window - 1
        if position == first:
            engine.optimizer.zero_grad(set_to_none=True)
        if not engine.network.training:
            engine.network.train()

        inputs, targets = engine.prepare_batch(batch, engine.state.device, engine.non_blocking, **engine.to_kwargs)[:2]
        output = engine.state.output = {Keys.IMAGE: inputs, Keys.LABEL: targets}
        self._buffers.save()
        waits = not last and hasattr(engine.network, "no_sync")
        try:
            with engine.network.no_sync() if waits else contextlib.nullcontext():
                self._add_gradients(engine, inputs, targets, window)
            if last:
                self._optimizer_step(engine)
        except _Skipped as skipped:
            self._buffers.restore()
            output[Keys.LOSS] = torch.tensor(float("nan"))
            self._count(skipped, batch)
            if last and any(p.grad is not None for p in _parameters(engine.optimizer)):
                self._optimizer_step(engine)  # the rest of the accumulation still counts
        if Keys.PRED in output:
            engine.fire_event(IterationEvents.MODEL_COMPLETED)
            return engine.state.output
        return [{Keys.IMAGE: image, Keys.LOSS: output[Keys.LOSS]} for image in inputs]

    def _add_gradients(self, engine: SupervisedTrainer, inputs: torch.Tensor, targets: Tensors, window: int) -> None:
        """Forward and backward pass of a batch, in smaller and smaller parts where memory runs out."""
        output: dict[str, Any] = engine.state.output
        size = len(inputs)
        while True:
            predictions: list[Tensors] = []
            total: dict[str, torch.Tensor] = {}
            try:
                for part, target in zip(split(inputs, size), split(targets, size), strict=True):
                    share = len(part) / len(inputs)
                    with torch.autocast(inputs.device.type, dtype=self._dtype, enabled=self._dtype is not None):
                        prediction = engine.inferer(part, engine.network)
                        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
                        loss = engine.loss_function(prediction, target).mean()
                    engine.fire_event(IterationEvents.LOSS_COMPLETED)
                    predictions.append(detached(prediction))
                    terms = {f"loss_{name}": term for name, term in getattr(engine.loss_function, "terms", {}).items()}
                    for name, value in {Keys.LOSS: loss.detach(), **terms}.items():
                        total[name] = total.get(name, 0.0) + value * share
                    if not _finite_on_all_ranks(loss):
                        output.update({**total, Keys.PRED: joined(predictions)})
                        if len(predictions) > 1:  # earlier parts of this batch have left their gradients
                            engine.optimizer.zero_grad(set_to_none=True)
                        raise _Skipped("non-finite loss")
                    self.scaler.scale(loss * share / window).backward()
                output.update({**total, Keys.PRED: joined(predictions)})
                engine.fire_event(IterationEvents.BACKWARD_COMPLETED)
                return
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            # Outside the except clause: the traceback of the exception would keep the failed graph alive.
            self._after_out_of_memory(engine, size)
            size = (size + 1) // 2

    def _after_out_of_memory(self, engine: SupervisedTrainer, size: int) -> None:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        assert self._buffers is not None
        self._buffers.restore()
        # Gradients may be half-written; what this accumulation had collected before goes with them.
        engine.optimizer.zero_grad(set_to_none=True)
        message = f"out of memory with {size} samples at once"
        if self.on_oom == "stop" or idist.get_world_size() > 1 or (self.on_oom == "halve" and size == 1):
            advice = f"try --batch_size {size // 2}" if size > 1 else "one sample does not fit: use a smaller input"
            raise TrainingError(f"{message}; {advice}, or --amp True")
        if self.on_oom == "skip":
            raise _Skipped(message, nonfinite=False)
        self._note(f"{message}: retried in halves")

    def _optimizer_step(self, engine: SupervisedTrainer) -> None:
        self.scaler.unscale_(engine.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(_parameters(engine.optimizer), self.grad_clip or float("inf"))
        # With fp16 the scaler itself leaves out a step whose gradients overflow, and lowers its scale.
        if not self.scaler.is_enabled() and not torch.isfinite(norm):
            engine.optimizer.zero_grad(set_to_none=True)
            raise _Skipped("non-finite gradient")
        self.scaler.step(engine.optimizer)
        self.scaler.update()

    def _count(self, skipped: _Skipped, batch: dict[str, Any]) -> None:
        cases = ", ".join(map(str, batch.get("case", []))) or "not named"
        self._note(f"{skipped}: batch skipped (cases: {cases})")
        self.nonfinite += skipped.nonfinite
        if self.nonfinite > self.nonfinite_limit:
            raise TrainingError(
                f"{self.nonfinite} batches had a non-finite loss or gradient, the last one with the cases {cases}; "
                "look at them, lower --lr, or switch --amp off"
            )

    def _note(self, sentence: str) -> None:
        self.events.append(sentence)
        logger.warning("%s", sentence)


class _Buffers:
    """Copy of a network's buffers (running statistics), to undo what a skipped batch did to them."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.live = list(network.buffers())
        self.copies = [buffer.clone() for buffer in self.live]

    def save(self) -> None:
        if self.live:
            torch._foreach_copy_(self.copies, self.live)

    def restore(self) -> None:
        if self.live:
            torch._foreach_copy_(self.live, self.copies)


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _finite_on_all_ranks(loss: torch.Tensor) -> bool:
    finite = torch.isfinite(loss.detach()).to(torch.float32)
    if idist.get_world_size() > 1:
        # All ranks call backward or none: one that left it out would keep the others waiting for its gradients.
        dist.all_reduce(finite, op=dist.ReduceOp.MIN)
    return bool(finite)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on a GPU or on the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)
