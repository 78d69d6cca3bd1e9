"""Random transforms whose draws depend on seed, epoch and sample alone."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

import numpy as np
from torch.utils.data import Dataset


class SeededDataset(Dataset):
    """Gives a MONAI dataset's random transforms a new state before every sample.

    The state is a function of ``(seed, epoch, index)``, so that neither the number of workers, nor their lifetime,
    nor a restart changes a sample of an epoch. Dictionaries also get their ``index``, by which
    several processes tell their cases apart.

    Args:
        dataset: a MONAI dataset; its ``transform``, when it is randomizable, is seeded.
        seed: seed of the run.
    """

    def __init__(self, dataset: Any, seed: int = 0) -> None:
        self.dataset = dataset
        self.seed = seed

    @property
    def data(self) -> Any:
        """The dataset's items."""
        return getattr(self.dataset, "data", [])

    def __len__(self) -> int:
        return len(self.dataset) if isinstance(self.dataset, Sized) else 0

    def __getitem__(self, key: tuple[int, ...]) -> Any:
        """The sample ``index`` as it is in ``epoch``; ``key`` holds both, epoch first.

        A third number tells repetitions within an epoch apart: each has draws of its own.
        """
        index = key[1]
        transform: Any = getattr(self.dataset, "transform", None)
        if hasattr(transform, "set_random_state"):
            state = np.random.SeedSequence((self.seed, *key)).generate_state(1)[0]
            transform.set_random_state(seed=int(state))
        item = self.dataset[index]
        return {**item, "index": index} if isinstance(item, dict) else item
