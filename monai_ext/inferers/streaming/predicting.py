"""The steps of a prediction with their windows predicted, in threads beside the one that blends them."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from monai_ext.inferers.streaming.predictor import WindowPredictor
from monai_ext.inferers.streaming.steps import Step, Windows

Logits = dict[str, torch.Tensor]


def threads_of_each(network_threads: int) -> int:
    """Threads that torch uses for one batch when so many batches are computed at the same time."""
    return max(1, torch.get_num_threads() // network_threads)


def predicted(
    steps: Iterable[Step], predictor: WindowPredictor, network_threads: int = 1
) -> Generator[tuple[Step, Logits | None]]:
    """The same steps in the same order, `Windows` with their logits.

    One batch more than there are threads is on its way, so that each finds the next one when it is done.
    """
    executor = ThreadPoolExecutor(
        network_threads,
        # The number of threads is a setting of each thread, and part of what the bytes depend on.
        initializer=torch.set_num_threads,
        initargs=(threads_of_each(network_threads),),
    )
    waiting: deque[tuple[Step, Future[Logits] | None]] = deque()
    try:
        for step in steps:
            waiting.append((step, executor.submit(predictor, step.batch) if isinstance(step, Windows) else None))
            if len(waiting) > network_threads + 1:
                yield _result(*waiting.popleft())
        while waiting:
            yield _result(*waiting.popleft())
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _result(step: Step, logits: Future[Logits] | None) -> tuple[Step, Logits | None]:
    return step, None if logits is None else logits.result()
