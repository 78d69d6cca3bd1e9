"""Fine-tuning of a network stage by stage, from its head to its input."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import nn

from monai_ext.errors import ConfigError
from monai_ext.handlers.engine_parts import part_of
from monai_ext.handlers.frozen import Frozen, inside

logger = logging.getLogger("monai_ext")


class ProgressiveUnfreeze:
    """Train what isn't listed first; make one more stage trainable every ``interval`` epochs.

    A frozen stage gets no gradient, its batch norms stay in evaluation mode, and its parameters are not in the
    optimizer. When it is released they enter it: the group that they were taken from, or the optimizer's first group,
    or, with ``lr``, one of their own. Method: gradual unfreezing, Howard and Ruder, Universal Language Model
    Fine-tuning for Text Classification, arXiv:1801.06146.

    What is released is a function of the epoch, so it survives a resume; and an optimizer that is about to load a
    state gets the groups that this state was saved with, by whatever means it is loaded. Where it is loaded before
    the trainer runs, give network and optimizer: the trainer's are known only then.

    Args:
        network: the network itself, not its multi-process wrapper (which must accept parameters without gradient);
            default: the trainer's.
        optimizer: optimizer of the network; default: the trainer's.
        stages: from the network's end to its input, each the name of a sub-module or a list of names. What isn't
            listed (the head) is trained from the start.
        interval: epochs between stages: with 3 the first is trained from epoch 4, the next from 7. 0 trains
            everything from the start, ``None`` never releases a stage.
        start_epoch: the epoch of the first stage, the others follow in steps of ``interval`` (all at once with 0);
            default ``interval + 1``.
        lr: learning rate of the stages, before the schedule: the new group begins where the schedule stands. For
            schedulers that go by the optimizer's own groups (cosine, step, plateau); not for those that keep a list
            of rates (LambdaLR, warm restarts).

    Raises:
        ConfigError: for an interval or rate out of range, a stage that doesn't exist or overlaps another one (without
            ``network`` as the training starts), or when nothing would be trained before the first stage.

    Example:
        >>> ProgressiveUnfreeze(network, optimizer, ["layer4", "layer3", ["layer2", "layer1", "bn1", "conv1"]])
    """

    def __init__(
        self,
        network: nn.Module | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        stages: Sequence[str | Sequence[str]] = (),
        interval: int | None = 3,
        lr: float | None = None,
        start_epoch: int | None = None,
    ) -> None:
        if interval is not None and (isinstance(interval, bool) or not isinstance(interval, int) or interval < 0):
            raise ConfigError(f"ProgressiveUnfreeze: interval must be 0 or more epochs, or None, got {interval!r}")
        if lr is not None and not lr > 0:
            raise ConfigError(f"ProgressiveUnfreeze: lr must be > 0, got {lr!r}")
        if start_epoch is not None and (not isinstance(start_epoch, int) or start_epoch < 1):
            raise ConfigError(f"ProgressiveUnfreeze: start_epoch must be an epoch from 1 on, got {start_epoch!r}")
        self.network: nn.Module | None = None
        self.optimizer = optimizer
        self.interval = interval
        self.start_epoch = (interval or 0) + 1 if start_epoch is None else start_epoch
        self.lr = lr
        self.names = [[stage] if isinstance(stage, str) else list(stage) for stage in stages]
        self.stages: list[Frozen] = []
        self.released = 0
        # For each group of the optimizer, what always stays in it; for each parameter of a stage, its group.
        self._kept: list[list[nn.Parameter]] = []
        self._home: dict[nn.Parameter, int] = {}
        if network is not None:
            self._find_stages(network)

    def _find_stages(self, network: nn.Module) -> None:
        self.network = network
        self.stages = [Frozen(network, inside(network, names, "ProgressiveUnfreeze")) for names in self.names]
        seen: set[nn.Parameter] = set()
        for names, stage in zip(self.names, self.stages, strict=True):
            if not seen.isdisjoint(stage.parameters):
                raise ConfigError(f"ProgressiveUnfreeze: stage {_shown(names)} overlaps one before it")
            seen.update(stage.parameters)

    def stages_at(self, epoch: int) -> int:
        """Number of stages that are trained in an epoch (from 1).

        Args:
            epoch: number of the epoch, from 1.
        """
        if self.interval is None or epoch < self.start_epoch:
            return 0
        if self.interval == 0:
            return len(self.names)
        return min(len(self.names), 1 + (epoch - self.start_epoch) // self.interval)

    def attach(self, engine: Engine) -> None:
        """Register with a trainer; with a network and an optimizer of its own, begin at once.

        Args:
            engine: the trainer.
        """
        if self.network is not None and self.optimizer is not None:
            self._begin(self.optimizer)
        else:
            engine.add_event_handler(Events.STARTED, self._started)
        engine.add_event_handler(Events.EPOCH_STARTED, self.apply)

    def _started(self, engine: Engine) -> None:
        if self._kept:
            return  # a trainer that goes on
        if self.network is None:
            self._find_stages(part_of(engine, "network", "ProgressiveUnfreeze"))
        if self.optimizer is None:
            self.optimizer = part_of(engine, "optimizer", "ProgressiveUnfreeze")
        self._begin(self.optimizer)

    def _begin(self, optimizer: torch.optim.Optimizer) -> None:
        """Freeze the stages and take their parameters out of the optimizer."""
        staged = {parameter for stage in self.stages for parameter in stage.parameters}
        groups = optimizer.param_groups
        self._home = {p: index for index, group in enumerate(groups) for p in group["params"] if p in staged}
        self._kept = [[p for p in group["params"] if p not in staged] for group in groups]
        if self.stages_at(1) < len(self.stages) and not any(self._kept):
            raise ConfigError("ProgressiveUnfreeze: the optimizer has nothing to train before the first stage")
        self._release(self.stages_at(1))
        optimizer.register_load_state_dict_pre_hook(self._before_loading)

    def apply(self, engine: Engine) -> None:
        """Release the stages that are due in the epoch that begins.

        Args:
            engine: the trainer, at the start of an epoch.
        """
        epoch, before = engine.state.epoch, self.released
        self._release(self.stages_at(epoch))
        for names, stage in zip(self.names[before : self.released], self.stages[before:], strict=False):
            count = sum(parameter.numel() for parameter in stage.parameters)
            logger.info("epoch %d: %s (%d parameters) is trained from now on", epoch, _shown(names), count)

    def _release(self, count: int) -> None:
        assert self.optimizer is not None
        for number, stage in enumerate(self.stages):
            stage.set(number >= count)
        self.released = count
        trained = [parameter for stage in self.stages[:count] for parameter in stage.parameters]
        own = len(self._kept)  # number of the group with a rate of its own
        if self.lr is not None and trained and len(self.optimizer.param_groups) == own:
            first = self.optimizer.param_groups[0]
            course = float(first["lr"]) / float(first.get("initial_lr", first["lr"]))
            self.optimizer.add_param_group({"params": [], "lr": self.lr * course, "initial_lr": self.lr})
        for index, group in enumerate(self.optimizer.param_groups):
            kept = self._kept[index] if index < own else []
            group["params"] = kept + [p for p in trained if index == (self._home.get(p, 0) if self.lr is None else own)]

    def _before_loading(self, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
        """Give the optimizer the groups of a saved state: their size tells how many stages it had."""
        size = sum(len(group["params"]) for group in state["param_groups"]) - sum(map(len, self._kept))
        sizes = [sum(len(stage.parameters) for stage in self.stages[:count]) for count in range(len(self.stages) + 1)]
        if size in sizes:  # else the state is of another network, which the optimizer itself reports
            self._release(sizes.index(size))


def _shown(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
