"""What a run needs to know about the predictions of its network, whatever they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ignite.engine import Engine


class Outputs(Protocol):
    """Keeps the predictions of the best epoch, and writes what there is to say about them.

    Attributes:
        cases, parts: what the items are called in reports, see `ClassificationOutputs`; ``None`` for plain cases.
    """

    cases: str | None
    parts: str | None

    def take(self, evaluator: Engine) -> None:
        """Take over the result of the validation that has just ended."""

    def for_checkpoint(self, evaluator: Engine) -> dict[str, Any]:
        """What a best checkpoint (and the metadata of exports) holds beside the network, such as thresholds: plain
        values from the validation that has just ended, which another monitor may call the best.
        """

    def write(self, folder: str | Path) -> None:
        """Write the predictions as files."""

    def metrics(self, intervals: bool = False) -> dict[str, Any]:
        """The part of ``metrics.json`` that tells of the best epoch."""

    def report(self) -> str | None:
        """A text for ``metrics/classification_report.txt``, where there is one."""

    def plots(self) -> dict[str, Any]:
        """What `monai_ext.reports.save_all` draws of them, by argument."""

    def formats(self, formats: Mapping[str, Any], image_shape: Sequence[int]) -> dict[str, Any]:
        """The outputs of a bundle's ``metadata.json`` made true for a run; ``image_shape`` is (C, spatial axes)."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: plain values and tensors."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over `state_dict`."""
