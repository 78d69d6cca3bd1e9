"""The condition under which a stage admits a series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from monai_ext.errors import ConfigError


@dataclass(frozen=True)
class Gate:
    """Admitted classes of a stage, and the least probability.

    Args:
        admit: names of the classes.
        threshold: least probability, 0 to 1.
    """

    admit: tuple[str, ...]
    threshold: float = 0.5

    def check(self, stage: str, classes: Sequence[str]) -> None:
        """Compare with the classes of the stage.

        Args:
            stage: its name, for messages.
            classes: names of its classes.

        Raises:
            ConfigError: for a name that is no class, no name at all, or a threshold out of range.
        """
        unknown = [name for name in self.admit if name not in classes]
        if unknown or not self.admit:
            what = f"{unknown[0]!r} is no class of the stage {stage!r}" if unknown else "names no class"
            raise ConfigError(f"--{stage}_admit: {what}; its classes are {', '.join(classes)}")
        if not 0 <= self.threshold <= 1:
            raise ConfigError(f"--{stage}_threshold: must be from 0 to 1, got {self.threshold!r}")
