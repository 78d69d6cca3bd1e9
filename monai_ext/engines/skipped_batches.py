"""Batches that a training skips, counted and reported, up to a limit."""

from __future__ import annotations

import logging
from typing import Any

import torch

from monai_ext.errors import UserError

logger = logging.getLogger(__name__)


class TrainingError(UserError):
    """Training can't continue: too many non-finite losses or gradients, or a batch that doesn't fit the memory."""


class Skipped(Exception):
    """This batch is skipped; holds the reason, and whether it counts as non-finite."""

    def __init__(self, reason: str, nonfinite: bool = True) -> None:
        super().__init__(reason)
        self.nonfinite = nonfinite


class SkippedBatches:
    """Counts of skipped batches and of fp16 steps that were left out, over a whole run and its continuations.

    Args:
        nonfinite_limit, overflow_limit: see `monai_ext.engines.TrainingStep`, whose base this is.
    """

    def __init__(self, nonfinite_limit: int, overflow_limit: int) -> None:
        self.nonfinite_limit = nonfinite_limit
        self.overflow_limit = overflow_limit
        self.nonfinite = self.overflows = self.overflows_in_a_row = 0
        self._events: list[str] = []

    @property
    def events(self) -> list[str]:
        """Events such as skipped batches, one sentence each."""
        if not self.overflows:
            return list(self._events)
        left_out = f"fp16: {self.overflows} optimizer steps left out because their gradients overflowed"
        return [*self._events, f"{left_out} (a few are normal: they find the scale)"]

    def state_dict(self) -> dict[str, Any]:
        """Counts and messages of the skipped batches; the scaler's state lies in ``scaler``."""
        counts = {name: getattr(self, name) for name in ("nonfinite", "overflows", "overflows_in_a_row")}
        return {**counts, "events": list(self._events)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over `state_dict` of another step."""
        self.nonfinite, self._events = state["nonfinite"], list(state["events"])
        self.overflows = state.get("overflows", 0)
        self.overflows_in_a_row = state.get("overflows_in_a_row", 0)

    def note(self, sentence: str) -> None:
        """Keep a sentence for the run's record, and log it."""
        self._events.append(sentence)
        logger.warning("%s", sentence)

    def count_skipped(self, skipped: Skipped, batch: dict[str, Any]) -> None:
        """One more batch was skipped.

        Raises:
            TrainingError: when it is one too many.
        """
        cases = _cases(batch)
        self.note(f"{skipped}: batch skipped (cases: {cases})")
        self.nonfinite += skipped.nonfinite
        if self.nonfinite > self.nonfinite_limit:
            raise TrainingError(
                f"{self.nonfinite} batches had a non-finite loss or gradient, the last one with the cases {cases}; "
                "check them, lower --lr, or switch --amp off"
            )

    def count_overflow(self, scale: float, batch: dict[str, Any]) -> None:
        """One more fp16 step was left out, and the scale lowered to ``scale``.

        Raises:
            TrainingError: when the scale can't be lowered further, or too many came in a row.
        """
        self.overflows += 1
        self.overflows_in_a_row += 1
        logger.debug("fp16 gradients overflowed: step left out, scale %g", scale)
        if scale < 1 or self.overflows_in_a_row > self.overflow_limit:
            raise TrainingError(
                f"fp16: the last {self.overflows_in_a_row} optimizer steps were left out because their gradients were "
                f"not finite, and the scale is down to {scale:g} (last cases: {_cases(batch)}); use --precision bf16 "
                "or --amp False, or lower --lr"
            )


class BufferCopies:
    """Copy of a network's buffers (running statistics), to undo the changes by a skipped batch."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.live = list(network.buffers())
        self.copies = [buffer.clone() for buffer in self.live]

    def save(self) -> None:
        if self.live:
            torch._foreach_copy_(self.copies, self.live)

    def restore(self) -> None:
        if self.live:
            torch._foreach_copy_(self.live, self.copies)


def _cases(batch: dict[str, Any]) -> str:
    return ", ".join(map(str, batch.get("case", []))) or "not named"
