"""One training iteration with guards that would come too late in a handler."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import ignite.distributed as idist
import torch
from monai.data import decollate_batch
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.utils import CommonKeys as Keys

from monai_ext.engines.batches import Tensors, detached, joined, moved, prepared_where_it_fits, samples, split
from monai_ext.engines.convolution_check import ConvolutionCheck
from monai_ext.engines.first_steps import FirstSteps
from monai_ext.engines.precision import Autocast, one_autocast
from monai_ext.engines.ranks import average_gradients, highest_on_all_ranks
from monai_ext.engines.skipped_batches import BufferCopies, Skipped, SkippedBatches, TrainingError
from monai_ext.errors import ConfigError
from monai_ext.memory import is_out_of_memory, release_cached_memory


class _Window(NamedTuple):
    """Position of a batch among those of one optimizer step."""

    size: int
    first: bool
    last: bool


class TrainingStep(SkippedBatches):
    """``iteration_update`` of MONAI's `SupervisedTrainer`, with guards.

    Beyond MONAI's own iteration: autocast on CPUs too; gradients clipped after unscaling; the last, incomplete
    accumulation of an epoch weighted by its own length; a batch with a non-finite loss or gradient skipped without an
    effect, batch-norm buffers included; fp16 steps that the scaler leaves out counted; a batch that doesn't fit the
    memory retried in halves. A GPU is waited for once per iteration, when the finite flag is read (once more at the
    end of an accumulation); with several processes this flag is theirs together, and so are all decisions.

    The output is MONAI's (image, label, pred, loss); a skipped batch has ``loss`` NaN, and neither ``pred`` nor
    ``label`` when it did not fit the memory. Labels and predictions are tensors, or dicts of target → tensor. A loss
    with the attribute ``terms`` (name → value, such as `monai_ext.losses.MultiTargetLoss`) adds ``loss_<name>``; with a
    false ``counted``, its NaN says that nothing in the batch counts, which is no error and adds no gradient.

    Args:
        amp, precision: the number format, see `monai_ext.engines.autocast_dtype`.
        grad_clip: largest norm of the gradient over all parameters; ``None`` for no limit.
        accumulate: batches per optimizer step.
        nonfinite_limit: number of skipped batches in a run after which training stops with an error.
        overflow_limit: number of fp16 steps in a row that may be left out because gradients overflowed; training
            stops as well when the scaler's scale falls below 1, where nothing is left to lower.
        on_oom: ``"halve"`` retries a batch in two halves (and these again), weighting their losses by size: batch
            statistics and losses normalised over the batch then see the halves; ``"skip"`` leaves the batch out;
            ``"stop"`` ends with the batch size to try. With several processes it is always ``"stop"``: one rank's
            retry would desert the others in the middle of their common reduction.
        decollate: give the output as a list with a dictionary for each sample, as MONAI's trainer does, which reads
            every label and the loss from the GPU for it; for a trainer with ``decollate=False``.
        autocast: the number format, in place of ``amp`` and ``precision``.

    Attributes:
        pending_signal: number of the signal that this process has received, or 0. The largest of all processes is put
            into ``engine.state.signal`` in each iteration.

    Raises:
        ConfigError: for ``accumulate`` below 1, an unknown ``on_oom``, or two number formats; while training in half
            precision on a CPU, for a convolution whose gradient is wrong there (see `ConvolutionCheck`).
        TrainingError: while training, see ``nonfinite_limit``, ``overflow_limit`` and ``on_oom``.
    """

    def __init__(
        self,
        amp: bool | str = "auto",
        precision: str = "auto",
        grad_clip: float | None = None,
        accumulate: int = 1,
        nonfinite_limit: int = 10,
        on_oom: str = "halve",
        overflow_limit: int = 20,
        decollate: bool = False,
        autocast: Autocast | None = None,
    ) -> None:
        if accumulate < 1:
            raise ConfigError(f"--accumulate {accumulate}: must be at least 1")
        if on_oom not in ("halve", "skip", "stop"):
            raise ConfigError(f"on_oom {on_oom!r}: unknown (choices: halve, skip, stop)")
        super().__init__(nonfinite_limit, overflow_limit)
        self.autocast = one_autocast(autocast, amp, precision)
        self.grad_clip = grad_clip
        self.accumulate = accumulate
        self.on_oom = on_oom
        self.decollate = decollate
        self.pending_signal: Callable[[], int] = lambda: 0
        self.scaler = torch.amp.GradScaler(enabled=False)
        self._dtype: torch.dtype | None = None
        self._buffers: BufferCopies | None = None
        self._first_steps = FirstSteps()
        self._check: ConvolutionCheck | None = None
        self._reduces = False  # whether a multi-process wrapper expects a backward pass whose gradients it averages

    def prepare(self, engine: SupervisedTrainer) -> None:
        """Choose the number format for the engine's device, and move the loss's own tensors there, such as weights of
        classes, which MONAI leaves where they are; called once, before the first step.

        Args:
            engine: the trainer, whose device and loss are set.
        """
        if isinstance(engine.loss_function, torch.nn.Module):
            engine.loss_function.to(engine.state.device)
        self._dtype = self.autocast.dtype(engine.state.device)
        self.scaler = torch.amp.GradScaler(engine.state.device.type, enabled=self._dtype == torch.float16)
        self._buffers = BufferCopies(engine.network)
        if engine.state.device.type == "cpu" and self._dtype is not None:
            self._check = ConvolutionCheck(self._dtype)

    def __call__(self, engine: SupervisedTrainer, batch: dict[str, Any]) -> dict[str, Any] | list[dict[str, Any]]:
        if self._buffers is None:
            self.prepare(engine)
        assert self._buffers is not None
        window = self._window(engine)
        engine.state.output = {}  # the tensors of the step before would take their place through this one
        if window.first:
            engine.optimizer.zero_grad(set_to_none=True)
        if not engine.network.training:
            engine.network.train()
        self._buffers.save()
        # After a forward pass that a skip left without its backward pass, the wrapper goes on to expect one, by what
        # was frozen then: so the next pass is averaged at once. The mean of means at the window's end is the same.
        self._reduces = self._reduces or window.last
        waits = not self._reduces and hasattr(engine.network, "no_sync")
        try:
            with engine.network.no_sync() if waits else contextlib.nullcontext():
                loss = self._add_gradients(engine, batch, window)
            self._reduces = False
            if window.last:
                self._optimizer_step(engine, batch, loss if window.size == 1 else None)
        except Skipped as skipped:
            self._skip(engine, skipped, batch, window)
        output = engine.state.output
        if Keys.PRED not in output:
            return [{Keys.IMAGE: image, Keys.LOSS: output[Keys.LOSS]} for image in output[Keys.IMAGE]]
        if self.decollate:
            engine.state.batch, engine.state.output = decollate_batch(batch), samples(output)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output

    def _window(self, engine: SupervisedTrainer) -> _Window:
        position = (engine.state.iteration - 1) % engine.state.epoch_length
        first = position - position % self.accumulate
        size = min(self.accumulate, engine.state.epoch_length - first)
        return _Window(size, position == first, position == first + size - 1)

    # -- forward and backward ------------------------------------------------------------------------------------

    def _add_gradients(self, engine: SupervisedTrainer, batch: dict[str, Any], window: _Window) -> torch.Tensor:
        """Forward and backward pass of a batch, in smaller and smaller parts where memory runs out; returns its loss.

        No frame above a pass may hold what belongs to its graph: it would outlive a failed one and fill the memory
        through all retries. For the same reason the retries stand outside the except clauses, whose exception holds
        the frames of the pass.

        Raises:
            RuntimeError: of a pass, other than for a full memory.
        """  # noqa: DOC501 (a MemoryError never passes: it always says that memory ran out)
        inputs, targets, fits = prepared_where_it_fits(engine, batch)
        engine.state.output = {Keys.IMAGE: inputs, Keys.LABEL: targets}
        size = len(inputs) if fits else self._halved(engine, len(inputs))
        while True:
            try:
                return self._passes(engine, inputs, targets, size, window)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            size = self._halved(engine, size)

    def _passes(
        self, engine: SupervisedTrainer, inputs: torch.Tensor, targets: Tensors, size: int, window: _Window
    ) -> torch.Tensor:
        output: dict[str, Any] = engine.state.output
        predictions: list[Tensors] = []
        total: dict[str, torch.Tensor] = {}
        whole = torch.zeros((), device=engine.state.device)
        for part, target in zip(split(inputs, size), split(targets, size), strict=True):
            fraction = len(part) / len(inputs)
            loss = self._forward(engine, part, target, predictions, total, fraction)
            # A single batch's loss is checked with its gradients. A batch among others must not spoil theirs.
            checked = _checked(engine.loss_function, loss.detach())
            if window.size > 1 and self._not_finite(engine, checked)[0]:
                output.update({**total, Keys.PRED: joined(predictions)})
                if len(predictions) > 1:  # earlier parts of this batch have left their gradients
                    engine.optimizer.zero_grad(set_to_none=True)
                raise Skipped("non-finite loss")
            self.scaler.scale(loss * fraction / window.size).backward()
            del loss
            whole = whole + checked * fraction
        output.update({**total, Keys.PRED: joined(predictions)})
        engine.fire_event(IterationEvents.BACKWARD_COMPLETED)
        return whole

    def _forward(
        self,
        engine: SupervisedTrainer,
        part: torch.Tensor,
        target: Tensors,
        predictions: list[Tensors],
        total: dict[str, torch.Tensor],
        fraction: float,
    ) -> torch.Tensor:
        """Loss of a part, with its graph; adds to the predictions and the losses of the batch, without."""
        device = engine.state.device
        part, target = moved(part, device), moved(target, device)
        with torch.autocast(device.type, dtype=self._dtype, enabled=self._dtype is not None):
            with self._check.watching() if self._check is not None else contextlib.nullcontext():
                prediction = engine.inferer(part, engine.network)
            engine.fire_event(IterationEvents.FORWARD_COMPLETED)
            loss = engine.loss_function(prediction, target).mean()
        engine.fire_event(IterationEvents.LOSS_COMPLETED)
        predictions.append(detached(prediction))
        terms = {f"loss_{name}": term.detach() for name, term in getattr(engine.loss_function, "terms", {}).items()}
        for name, value in {Keys.LOSS: loss.detach(), **terms}.items():
            total[name] = total.get(name, 0.0) + value * fraction
        return loss

    def _halved(self, engine: SupervisedTrainer, size: int) -> int:
        """Half the size of a pass that did not fit, after all that it left in memory is released.

        Raises:
            Skipped: with ``on_oom`` "skip": the batch isn't to be tried again.
            TrainingError: with "stop", in several processes, or for a single sample with "halve".
        """
        release_cached_memory()
        assert self._buffers is not None
        self._buffers.restore()
        # Gradients may be half-written; what this accumulation had collected before goes with them.
        engine.optimizer.zero_grad(set_to_none=True)
        message = f"out of memory with {size} samples at once"
        if self.on_oom == "stop" or idist.get_world_size() > 1 or (self.on_oom == "halve" and size == 1):
            advice = f"try --batch_size {size // 2}" if size > 1 else "one sample does not fit: use a smaller input"
            raise TrainingError(f"{message}; {advice}, or --amp True")
        if self.on_oom == "skip":
            raise Skipped(message, nonfinite=False)
        self.note(f"{message}: retried in halves")
        return (size + 1) // 2

    # -- the optimizer -------------------------------------------------------------------------------------------

    def _optimizer_step(self, engine: SupervisedTrainer, batch: dict[str, Any], loss: torch.Tensor | None) -> None:
        """Use the gradients of a window, if they are finite and, where it is given, the loss."""
        optimizer = engine.optimizer
        self.scaler.unscale_(optimizer)
        norm = torch.nn.utils.clip_grad_norm_(_parameters(optimizer), self.grad_clip or float("inf"))
        bad_gradient, bad_loss = self._not_finite(engine, norm, torch.zeros(()) if loss is None else loss)
        if not (bad_gradient or bad_loss):
            self._apply(engine)
            self.scaler.update()
            self.overflows_in_a_row = 0
            return
        optimizer.zero_grad(set_to_none=True)
        if self.scaler.is_enabled():
            # A non-finite loss is no evidence on the scale of the gradients.
            self.scaler.update(self.scaler.get_scale() if bad_loss else None)
        if bad_loss:
            raise Skipped("non-finite loss")
        if not self.scaler.is_enabled():
            raise Skipped("non-finite gradient")
        self.count_overflow(self.scaler.get_scale(), batch)

    def _apply(self, engine: SupervisedTrainer) -> None:
        """The optimizer's step; the first one, which takes memory for the optimizer's state, is tried twice."""
        optimizer = engine.optimizer
        undo = self._first_steps.before(optimizer)
        done = False
        try:
            optimizer.step()
            done = True
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if undo is None:
                raise TrainingError("out of memory in the optimizer's step; try a smaller --batch_size") from error
        if undo is None:  # none of its parameters is new
            return
        if not done:
            undo()
            engine.state.output = {name: moved(value, "cpu") for name, value in engine.state.output.items()}
            release_cached_memory()
            self.note("out of memory in the optimizer's first step: retried without the batch")
            try:
                optimizer.step()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                raise TrainingError(
                    "out of memory in the optimizer's first step: its state does not fit beside the network and its "
                    "gradients; use --optimizer sgd, a smaller network, or freeze a part of it"
                ) from error
        self._first_steps.done(optimizer)

    def _not_finite(self, engine: SupervisedTrainer, *values: torch.Tensor) -> list[bool]:
        """For each value whether it isn't finite on any process: the one time that the host waits for the device."""
        device = engine.state.device
        flags = [~torch.isfinite(value) for value in values]
        *bad, engine.state.signal = highest_on_all_ranks([*flags, self.pending_signal()], device)
        return [value > 0 for value in bad]

    # -- what went wrong -----------------------------------------------------------------------------------------

    def _skip(self, engine: SupervisedTrainer, skipped: Skipped, batch: dict[str, Any], window: _Window) -> None:
        """Undo a batch; the earlier batches of its window still count."""
        assert self._buffers is not None
        self._buffers.restore()
        engine.state.output[Keys.LOSS] = torch.tensor(float("nan"))
        self.count_skipped(skipped, batch)
        if window.last and any(p.grad is not None for p in _parameters(engine.optimizer)):
            if hasattr(engine.network, "no_sync"):  # its own reduction comes with the last backward pass
                average_gradients(_parameters(engine.optimizer))
            try:
                self._optimizer_step(engine, batch, None)
            except Skipped as rest:
                self.count_skipped(rest, batch)


def _checked(loss_function: Any, loss: torch.Tensor) -> torch.Tensor:
    """The loss as far as it has to be finite: 0 where the loss function says that nothing counted."""
    counted = getattr(loss_function, "counted", None)
    return loss if counted is None else torch.where(counted, loss, 0.0)


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
