"""Places where blocks of work are computed (see `monai_ext.blocks`): threads, processes, a Dask cluster."""

from __future__ import annotations

import multiprocessing
import multiprocessing.context
import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures import wait as waited_for
from typing import Any

from monai_ext.allocator import keep_freed_memory
from monai_ext.errors import ConfigError
from monai_ext.parent import end_with_parent
from monai_ext.workflow import default_workers

# What the start of worker processes takes, most of it MONAI's import.
_START_SECONDS = 6.0


class Place(ABC):
    """A place that computes blocks.

    Attributes:
        at_once: blocks that are submitted at a time, at least 1.
        lost: exceptions that a block's future raises when its worker has died.
        how_lost: sentence for users on what happened, and what to do.
    """

    at_once: int
    lost: tuple[type[BaseException], ...] = (BrokenExecutor,)
    how_lost = "its worker process was killed; try fewer --workers if memory ran out"

    @abstractmethod
    def open(self) -> Executor:
        """A new executor; called again after a worker was lost."""

    def close_broken(self, executor: Executor) -> None:
        """End an executor that has lost a worker.

        Args:
            executor: that `open` gave.
        """
        executor.shutdown()


class Threads(Place):
    """Threads of this process, for work that releases Python's lock or shares an array; one thread is this one.

    Args:
        workers: number of threads; 0 is one.

    Raises:
        ConfigError: for a negative number.
    """

    def __init__(self, workers: int) -> None:
        self.workers = _not_negative(workers)
        # The next ones wait in the queue: a block may take less time than this process to hand one out.
        self.at_once = 2 * workers if workers > 1 else 1

    def open(self) -> Executor:
        return ThreadPoolExecutor(self.workers) if self.workers > 1 else _ThisThread()


class Processes(Place):
    """Clean processes of this machine, which end when this one does, however it ends; one process is this one.

    Args:
        workers: number of processes; 0 is one.
        preload: modules that are imported once and shared, such as those that import MONAI, which takes seconds.
        setup: called first in each process.
        few: number of blocks, which may be so few or so small that other processes aren't worth their start: they
            start when the first blocks, computed here, have shown that they are, and further blocks are computed here
            until they have started. None starts them at once.

    Raises:
        ConfigError: for a negative number.
    """

    def __init__(
        self,
        workers: int,
        preload: Sequence[str] = (),
        setup: Callable[[], Any] | None = None,
        few: int | None = None,
    ) -> None:
        self.at_once = max(1, _not_negative(workers))
        self.setup, self._few = setup, few
        self.context = _clean_context(preload)

    def open(self) -> Executor:
        """Processes, of which one has started.

        Raises:
            ConfigError: when it ends as soon as it starts.
        """
        if self.at_once == 1:
            return _ThisThread()
        if self._few is not None:
            few, self._few = self._few, None
            return _FirstHere(self, few)
        executor = ProcessPoolExecutor(self.at_once, self.context, _start, (self.setup,))
        try:
            executor.submit(os.getpid).result()
        except BaseException as error:
            executor.shutdown()
            if not isinstance(error, BrokenExecutor):
                raise
            raise ConfigError(
                "worker processes end as soon as they start; what they printed says why (a script that starts them "
                "needs `if __name__ == '__main__':`). One worker is this process itself"
            ) from error
        return executor

    def close_broken(self, executor: Executor) -> None:
        """End an executor that has lost a worker, with those of its processes that it has overlooked: one that started
        while the others were being ended would be waited for without end.

        Args:
            executor: that `open` gave.
        """
        pool = executor.others if isinstance(executor, _FirstHere) else executor
        for process in list((getattr(pool, "_processes", None) or {}).values()):
            process.kill()
        executor.shutdown()


class Dask(Place):
    """The workers of a Dask cluster; they have this package, and see the data under the same paths.

    Use it in a ``with`` statement, which ends the connection that it has made.

    Args:
        client: of ``distributed``, or the address of a scheduler (``tcp://...``).

    Raises:
        ConfigError: when ``distributed`` isn't installed, the scheduler isn't there, or has no workers.
    """

    how_lost = "it ended every worker of the Dask cluster that computed it; give them more memory if it ran out"

    def __init__(self, client: Any) -> None:
        try:
            import distributed
        except ImportError as error:
            raise ConfigError("Dask isn't installed: pip install 'monai-ext[dask]'") from error
        self._own = isinstance(client, str)
        try:
            self.client = distributed.Client(client, timeout="30s") if self._own else client
        except (OSError, ValueError) as error:
            raise ConfigError(f"--dask {client}: no scheduler answers there ({error})") from error
        self.lost = (distributed.KilledWorker,)
        # One computes while the next is on its way.
        self.at_once = 2 * self.count()
        if not self.at_once:
            self.close()
            raise ConfigError("the Dask cluster has no workers; start some first")

    def count(self) -> int:
        """Workers that the cluster has now."""
        return len(self.client.scheduler_info(n_workers=-1)["workers"])

    def open(self) -> Executor:
        return self.client.get_executor(pure=False)

    def close(self) -> None:
        if self._own:
            self.client.close()

    def __enter__(self) -> Dask:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def place_of(workers: int | Place | None, local: Callable[[int], Place]) -> Place:
    """``workers`` where it is a place; else a local one with so many, by default one per CPU, at most 8.

    Raises:
        ConfigError: for a negative number.
    """
    if isinstance(workers, Place):
        return workers
    return local(default_workers() if workers is None else _not_negative(workers))


def processes_for(workers: int | Place | None, blocks: int, preload: Sequence[str]) -> Place:
    """``workers`` where it is a place; else processes of one torch thread each for so many blocks.

    Args:
        workers: their number; None for one per CPU, at most 8, where the blocks are worth their start.
        blocks: number of blocks.
        preload: see `Processes`.

    Raises:
        ConfigError: for a negative number.
    """
    few = blocks if workers is None else None
    return place_of(workers, lambda number: Processes(min(number, blocks), preload, _one_thread, few))


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _not_negative(workers: int) -> int:
    if workers < 0:
        raise ConfigError(f"--workers {workers}: must be 0 or more; 0 and 1 work in this process")
    return workers


class _ThisThread(Executor):
    """Computes a block while it is submitted; interruptions come through at once."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(work(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class _FirstHere(Executor):
    """Computes blocks in this thread, until those that are left would take longer than other processes save; and until
    these have started.
    """

    def __init__(self, place: Processes, blocks: int) -> None:
        self._place, self._left, self._done, self._seconds = place, blocks, 0, 0.0
        self._starting: Future[Executor] | None = None

    @property
    def others(self) -> Executor | None:
        """The other processes, once they have started."""
        if self._starting is None or not self._starting.done() or self._starting.exception():
            return None
        return self._starting.result()

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        saved = self._seconds / max(self._done, 1) * self._left * (1 - 1 / self._place.at_once)
        if self._starting is None and saved > _START_SECONDS:
            self._starting = _in_background(self._place.open)
        self._left, self._done = self._left - 1, self._done + 1
        if self._starting is not None and self._starting.done():
            return self._starting.result().submit(work, *args, **kwargs)
        begun = time.perf_counter()
        future = _ThisThread().submit(work, *args, **kwargs)
        self._seconds += time.perf_counter() - begun
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        if self._starting is not None:
            waited_for([self._starting])
            if self.others is not None:
                self.others.shutdown(wait, cancel_futures=cancel_futures)


def _in_background(work: Callable[[], Executor]) -> Future[Executor]:
    thread = ThreadPoolExecutor(1)
    future = thread.submit(work)
    thread.shutdown(wait=False)
    return future


def _clean_context(preload: Sequence[str]) -> multiprocessing.context.BaseContext:
    """A clean server process imports ``preload`` once and forks the workers.

    Forking the calling process itself, which may have threads, could deadlock.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    return context


def _start(setup: Callable[[], Any] | None) -> None:
    """In a new worker: end with the parent, also when that one was killed (kill -9), and at once on Ctrl-C."""
    end_with_parent()
    keep_freed_memory()
    # A terminal interrupts the workers, too. The parent reports it; files get their names when they are complete.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if setup is not None:
        setup()
