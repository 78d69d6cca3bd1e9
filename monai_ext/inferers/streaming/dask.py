"""Prediction from Zarr to Zarr on a Dask cluster: blocks in tasks, lost workers' tasks done by others."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from monai_ext.blocks import WorkerLost, run_blocks
from monai_ext.errors import UserError
from monai_ext.inferers.streaming.job import Predicted, PredictionJob
from monai_ext.inferers.streaming.manifest import ProgressManifest
from monai_ext.inferers.streaming.sliding_window import ZarrSlidingWindow
from monai_ext.places import Dask

# Tasks that each worker should get.
_TASKS = 4
# A worker with several threads computes one task at a time: it has one network, and memory for one tile column.
_one_at_a_time = threading.Lock()


def predict_on_dask(
    client: Any, make: Callable[[], ZarrSlidingWindow], input: str | Path, output: str | Path, **call: Any
) -> Predicted:
    """Predict a volume on the workers of a Dask cluster.

    Each worker makes its network once. A task whose worker is lost is done again by another one, which skips the blocks
    that are recorded. This process computes nothing, and needs no GPU.

    Args:
        client: client of ``distributed``, or the address of a scheduler (``tcp://...``).
        make: returns the sliding window, on a worker; it is pickled, such as
            ``functools.partial(surface_predictor, checkpoint, device="cuda")``.
        input: path or URL of a Zarr array or OME-Zarr image, as the workers see it.
        output: folder on a file system that all workers share, or the URL of an object store.
        call: ``level``, ``channel``, ``timepoint``, ``mask``, ``bbox`` of `ZarrSlidingWindow`'s call.

    Raises:
        ConfigError: when ``distributed`` isn't installed, the scheduler isn't there, or has no workers.
        UserError: naming the block that ended every worker.
    """
    output = _absolute(output)
    call = {**call, "mask": call.get("mask") and _absolute(call["mask"])}

    def failed(task: Sequence[int], error: Exception) -> None:
        if isinstance(error, WorkerLost):
            raise UserError(_killed(output, task)) from error
        raise error

    with Dask(client) as cluster:
        import cloudpickle

        client, work = cluster.client, cloudpickle.dumps((make, _absolute(input), output, call))
        tasks, empty, ready = client.submit(_plan, work, _TASKS * cluster.count(), pure=False).result()
        for _ in run_blocks(partial(_compute, work), tasks, cluster, "predicting", "task", failed):
            pass
        complete = client.submit(_finish, work, pure=False).result()
    return Predicted(sum(map(len, tasks)) + empty, ready, complete)


def _absolute(source: str | Path) -> str:
    """An absolute path, as workers may run in another folder."""
    return str(source) if "://" in str(source) else str(Path(source).absolute())


def _killed(output: str, task: Sequence[int]) -> str:
    finished = ProgressManifest(output).finished()
    block = next((block for block in task if block not in finished), task[-1])
    return (
        f"{output}: block {block} ended every worker that computed it, probably for lack of memory; give the workers "
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
