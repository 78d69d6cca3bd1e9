"""Prediction from Zarr to Zarr on a Dask cluster: runs of blocks as tasks, lost workers' runs done by others."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import lru_cache
from pathlib import Path
from typing import Any

from monai_ext.errors import ConfigError, UserError
from monai_ext.inferers.streaming.job import Predicted, PredictionJob
from monai_ext.inferers.streaming.manifest import ProgressManifest
from monai_ext.inferers.streaming.sliding_window import ZarrSlidingWindow

# Tasks of a worker that are submitted at a time, and runs that each should get in all.
_SUBMITTED = 2
_RUNS = 4
# A worker with several threads computes one run at a time: it has one network, and memory for one column.
_one_at_a_time = threading.Lock()


def predict_on_dask(
    client: Any, make: Callable[[], ZarrSlidingWindow], input: str | Path, output: str | Path, **call: Any
) -> Predicted:
    """Predict a volume on the workers of a Dask cluster.

    Each worker makes its network once. A run of blocks whose worker is lost is done again by another one, which skips
    the blocks that are recorded. This process computes nothing, and needs no GPU.

    Args:
        client: of ``distributed``, or the address of a scheduler (``tcp://...``).
        make: gives the sliding window, on a worker; it travels by pickle, such as
            ``functools.partial(surface_predictor, checkpoint, device="cuda")``.
        input, output: as the workers see them, on a file system that all share (the input may be a URL).
        call: ``level``, ``mask``, ``bbox`` of `ZarrSlidingWindow`'s call.

    Raises:
        ConfigError: when ``distributed`` isn't installed, the scheduler isn't there, or has no workers.
        UserError: naming the block that ends every worker.
    """
    distributed = _distributed()
    if isinstance(client, str):
        try:
            with distributed.Client(client, timeout="30s") as connected:
                return predict_on_dask(connected, make, input, output, **call)
        except OSError as error:
            raise ConfigError(f"--dask {client}: no scheduler answers there ({error})") from error
    workers = len(client.scheduler_info(n_workers=-1)["workers"])
    if not workers:
        raise ConfigError("the Dask cluster has no workers; start some first")
    import cloudpickle

    output = Path(output).absolute()
    call = {**call, "mask": call.get("mask") and _absolute(call["mask"])}
    work = cloudpickle.dumps((make, _absolute(input), str(output), call))
    with client.get_executor(pure=False) as executor:
        runs, empty, ready = executor.submit(_plan, work, _RUNS * workers).result()
        waiting: dict[Future[None], list[int]] = {}
        left = list(reversed(runs))
        while left or waiting:
            while left and len(waiting) < _SUBMITTED * workers:
                run = left.pop()
                waiting[executor.submit(_compute, work, run)] = run
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                run = waiting.pop(future)
                try:
                    future.result()
                except distributed.KilledWorker as error:
                    raise UserError(_killed(output, run)) from error
        complete = executor.submit(_finish, work).result()
    return Predicted(sum(map(len, runs)) + empty, ready, complete)


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise ConfigError("Dask isn't installed: pip install 'monai-ext[dask]'") from error
    return distributed


def _absolute(source: str | Path) -> str:
    """A path as the workers, who may stand elsewhere, find it too."""
    return str(source) if "://" in str(source) else str(Path(source).absolute())


def _killed(output: Path, run: Sequence[int]) -> str:
    finished = ProgressManifest(output).finished()
    block = next((block for block in run if block not in finished), run[-1])
    return (
        f"{output}: block {block} ended every worker that computed it, probably for want of memory; give the workers "
        "more, or take a smaller block_size or batch_size in another output"
    )


@lru_cache(maxsize=1)
def _job(work: bytes) -> PredictionJob:
    make, input, output, call = pickle.loads(work)
    return make().job(input, output, **call)


def _plan(work: bytes, least: int) -> tuple[list[list[int]], int, int]:
    """Tasks of blocks that follow one another, at least so many where there are enough; records the empty blocks."""
    with _one_at_a_time:
        job = _job(work)
        shard = job.shard(0, 1)
        job.compute([], shard.empty)
        longest = max(1, len(shard.wanted) // least)
        tasks: list[list[int]] = []
        for block in shard.wanted:
            last = tasks[-1][-1] if tasks else None
            goes_on = last == block - 1 and job.grid.tile_column(block - 1) == job.grid.tile_column(block)
            if goes_on and len(tasks[-1]) < longest:
                tasks[-1].append(block)
            else:
                tasks.append([block])
        return tasks, len(shard.empty), shard.ready


def _compute(work: bytes, blocks: Sequence[int]) -> None:
    with _one_at_a_time:
        job = _job(work)
        job.compute([block for block in blocks if not job.manifest.is_finished(block)])


def _finish(work: bytes) -> bool:
    with _one_at_a_time:
        return _job(work).finish()
