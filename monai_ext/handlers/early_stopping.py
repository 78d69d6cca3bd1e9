"""Early stopping after epochs without improvement."""

from __future__ import annotations

from monai_ext.errors import ConfigError
from monai_ext.handlers.best import BestEpoch


class EarlyStopping:
    """Decides after each validated epoch whether training should stop.

    Ignite's own compares one number; this one follows a `BestEpoch`, so that ties are broken as for the checkpoint.

    Args:
        best: the best epoch so far, updated before each call.
        patience: validated epochs without a new best after which to stop; ``None`` or 0 never stops.
        min_epochs: never stop before this epoch has ended.

    Raises:
        ConfigError: for a negative patience.
    """

    def __init__(self, best: BestEpoch, patience: int | None, min_epochs: int = 10) -> None:
        if patience is not None and patience < 0:
            raise ConfigError(f"--early_stopping_patience {patience}: must be 0 (off) or more")
        self.best = best
        self.patience = patience
        self.min_epochs = min_epochs
        self.waited = 0

    def should_stop(self, epoch: int) -> bool:
        """Count an epoch after ``best`` has been updated with it; whether to stop now.

        Args:
            epoch: number of the epoch, from 1.
        """
        self.waited = 0 if self.best.epoch == epoch else self.waited + 1
        return self.stopped(epoch)

    def stopped(self, epoch: int) -> bool:
        """Whether the count has reached the end, without counting.

        Args:
            epoch: number of the epoch, from 1.
        """
        return bool(self.patience) and self.waited >= (self.patience or 0) and epoch >= self.min_epochs

    def state_dict(self) -> dict[str, int]:
        """Epochs waited."""
        return {"waited": self.waited}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Restore a `state_dict`.

        Args:
            state: number of epochs waited.
        """
        self.waited = state["waited"]
