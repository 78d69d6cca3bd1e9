"""A data loader whose batches are a function of seed and epoch."""

from __future__ import annotations

import copy
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from monai.data import DataLoader, list_data_collate
from monai.data.utils import worker_init_fn
from torch.utils.data.distributed import DistributedSampler

from monai_ext.data.seeded import SeededDataset
from monai_ext.devices import own_device
from monai_ext.errors import DataError
from monai_ext.parent import end_with_parent

# Represents an unknown label among known ones.
UNKNOWN = -1


class EpochSampler(DistributedSampler):
    """Yields ``(epoch, index)``, without shuffling always of epoch 0; one epoch is exactly one pass.

    It is a `DistributedSampler` because MONAI's engines announce the epoch to no other kind. Unlike that class it
    never repeats a sample to give all ranks the same number, except when a rank would have none: in training the
    remainder is left out instead (another one each epoch), in evaluation the numbers differ by one.

    Args:
        size: number of samples.
        shuffle: order by ``(seed, epoch)`` instead of by index.
        seed: seed of the run.
        samples_per_epoch: limit on the samples of an epoch over all ranks; in evaluation they are spread evenly over
            the data, which may be sorted.
        equal_shares: give every rank the same number of samples.
        weights: one per sample; a shuffled epoch then draws with replacement, in proportion to them, and
            yields ``(epoch, index, n)`` where a sample comes for the n-th time after its first.

    Raises:
        DataError: when the weights aren't one number > 0 for each sample.
    """

    def __init__(
        self,
        size: int,
        shuffle: bool,
        seed: int,
        samples_per_epoch: int | None = None,
        equal_shares: bool = False,
        weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__(
            range(size),  # type: ignore[arg-type]
            num_replicas=idist.get_world_size(),
            rank=idist.get_rank(),
            shuffle=shuffle,
            seed=seed,
        )
        self.size = size
        self.samples = min(size, samples_per_epoch) if samples_per_epoch else size
        self.equal_shares = equal_shares
        self.probabilities: np.ndarray | None = None
        if weights is not None:
            given = np.asarray(weights, dtype=np.float64)
            if given.shape != (size,) or not (np.isfinite(given).all() and (given > 0).all()):
                raise DataError(f"weights: the {size} samples need one finite number > 0 each, got shape {given.shape}")
            self.probabilities = given / given.sum()
        self.skip = 0

    def _share(self, order: np.ndarray) -> np.ndarray:
        if self.equal_shares and self.samples >= self.num_replicas:
            order = order[: self.samples - self.samples % self.num_replicas]
        mine = order[self.rank : self.samples : self.num_replicas]
        return mine if len(mine) else order[self.rank % len(order) :][:1]

    def __len__(self) -> int:
        return len(self._share(np.arange(self.size)))

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        order = np.linspace(0, self.size - 1, self.samples).round().astype(np.int64)
        if self.shuffle:
            rng = np.random.default_rng((self.seed, self.epoch))
            if self.probabilities is None:
                order = rng.permutation(self.size)
            else:
                order = rng.choice(self.size, self.size, p=self.probabilities)
        skip, self.skip = self.skip, 0
        epoch = self.epoch if self.shuffle else 0
        keys, seen = [], Counter[int]()
        for index in self._share(order).tolist():
            keys.append((epoch, index, seen[index]) if seen[index] else (epoch, index))
            seen[index] += 1
        return iter(keys[skip:])


class SeededLoader(DataLoader):
    """MONAI's `DataLoader` with order and random transforms decided by seed and epoch alone.

    Without shuffling random transforms are the same in every epoch, so that validations can be compared.

    In a batch of which some items have a ``label`` and others don't, these get `UNKNOWN`.

    Args:
        dataset: a MONAI dataset.
        batch_size: samples per batch on each process.
        shuffle: whether this is training: shuffled, as many samples for each process, the last incomplete batch dropped
            (kept when it is the only one).
        seed: seed of the run.
        num_workers: loader processes; they persist, and end with this process. 0 loads in the calling process.
        max_batches: limit on the batches of an epoch; ``None`` for all.
        prefetch_factor: batches that each loader process prefetches; large items need fewer.
        weights: how often to draw each sample of a shuffled epoch, such as `monai_ext.data.sample_weights`; ``None``
            for each once.
        device: device that the batches will be moved to; for a GPU they are in page-locked memory. Default a GPU where
            there is one.
        kwargs: other arguments of `torch.utils.data.DataLoader`.

    Raises:
        DataError: when the weights aren't one number > 0 for each sample.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        num_workers: int = 0,
        max_batches: int | None = None,
        prefetch_factor: int = 4,
        weights: Sequence[float] | None = None,
        device: str | torch.device | None = None,
        **kwargs: Any,
    ) -> None:
        self._given = {
            **{"batch_size": batch_size, "shuffle": shuffle, "seed": seed, "num_workers": num_workers},
            **{"max_batches": max_batches, "prefetch_factor": prefetch_factor, "device": device, **kwargs},
        }
        limit = max_batches * batch_size * idist.get_world_size() if max_batches else None
        sampler = EpochSampler(len(dataset), shuffle, seed, limit, equal_shares=shuffle, weights=weights)
        if num_workers:
            kwargs.setdefault("persistent_workers", True)
            kwargs["worker_init_fn"] = partial(_start, kwargs.get("worker_init_fn", worker_init_fn))
            kwargs["prefetch_factor"] = prefetch_factor
        kwargs.setdefault("collate_fn", collate)
        kwargs.setdefault("pin_memory", own_device(device).type == "cuda")
        kwargs.setdefault("drop_last", shuffle and len(sampler) >= batch_size)
        super().__init__(
            SeededDataset(dataset, seed), batch_size=batch_size, sampler=sampler, num_workers=num_workers, **kwargs
        )

    def __iter__(self) -> Any:
        batches = super().__iter__()
        if self.num_workers and not hasattr(batches, "queues_stay"):
            # Collected in a cycle together with its queues, the iterator would find them closed and couldn't tell its
            # workers to end: it waits 5 seconds for each and then kills it. So the queues outlive it.
            queues = (*batches._index_queues, batches._worker_result_queue)
            batches.queues_stay = weakref.finalize(batches, list, queues)
        return batches

    def over(self, data: Sequence[Any]) -> SeededLoader:
        """A loader like this one, without its weights, over other items.

        Args:
            data: for a copy of the data set, which has ``set_data``.
        """
        assert isinstance(self.dataset, SeededDataset)
        dataset = copy.copy(self.dataset.dataset)
        dataset.set_data(data)
        return SeededLoader(dataset, **self._given)

    def skip_batches(self, count: int) -> None:
        """Leave out the first ``count`` batches of the next pass (a run resumed within an epoch).

        Args:
            count: number of batches, from 0.
        """
        assert isinstance(self.sampler, EpochSampler)
        self.sampler.skip = count * (self.batch_size or 1)


def _start(then: Callable[[int], None] | None, worker: int) -> None:
    """In a new loader process. Torch's own watch sees a dead parent only while a worker waits for work, not while it
    waits for somebody to take its batches."""
    end_with_parent()
    if then is not None:
        then(worker)


def collate(items: Sequence[Any]) -> Any:
    """MONAI's `list_data_collate`, with labels filled up (see `SeededLoader`)."""
    labels = [item["label"] for item in items if isinstance(item, dict) and "label" in item]
    if labels:
        one_number = np.ndim(labels[0]) == 0
        unknown = UNKNOWN if one_number else torch.full_like(torch.as_tensor(labels[0]), UNKNOWN)
        items = [{"label": unknown, **item} for item in items]
    return list_data_collate(items)
