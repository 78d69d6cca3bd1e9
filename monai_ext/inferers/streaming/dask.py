"""Prediction from Zarr to Zarr on a Dask cluster: runs of blocks as tasks, lost workers' runs done by others."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from monai_ext.blocks import WorkerLost, run_blocks
from monai_ext.errors import UserError
from monai_ext.inferers.streaming.job import ZarrJob
from monai_ext.inferers.streaming.ledger import Ledger
from monai_ext.inferers.streaming.sliding_window import Predicted, ZarrSlidingWindow
from monai_ext.places import Dask

# Runs that each worker should get.
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
    output = Path(output).absolute()
    call = {**call, "mask": call.get("mask") and _absolute(call["mask"])}

    def failed(run: Sequence[int], error: Exception) -> None:
        if isinstance(error, WorkerLost):
            raise UserError(_killed(output, run)) from error
        raise error

    with Dask(client) as cluster:
        import cloudpickle

        client, work = cluster.client, cloudpickle.dumps((make, _absolute(input), str(output), call))
        runs, empty, ready = client.submit(_plan, work, _RUNS * cluster.count(), pure=False).result()
        for _ in run_blocks(partial(_compute, work), runs, cluster, "predicting", "run", failed):
            pass
        complete = client.submit(_finish, work, pure=False).result()
    return Predicted(sum(map(len, runs)) + empty, ready, complete)


def _absolute(source: str | Path) -> str:
    """A path as the workers, who may stand elsewhere, find it too."""
    return str(source) if "://" in str(source) else str(Path(source).absolute())


def _killed(output: Path, run: Sequence[int]) -> str:
    finished = Ledger(output / "ledger").finished()
    block = next((block for block in run if block not in finished), run[-1])
    return (
        f"{output}: block {block} ended every worker that computed it, probably for want of memory; give the workers "
        "more, or take a smaller block_size or batch_size in another output"
    )


@lru_cache(maxsize=1)
def _job(work: bytes) -> ZarrJob:
    make, input, output, call = pickle.loads(work)
    return make().job(input, output, **call)


def _plan(work: bytes, least: int) -> tuple[list[list[int]], int, int]:
    """Runs of blocks, at least so many where there are enough blocks; records the empty ones."""
    with _one_at_a_time:
        job = _job(work)
        share = job.share(0, 1)
        job.compute([], share.empty)
        longest = max(1, len(share.wanted) // least)
        runs: list[list[int]] = []
        for block in share.wanted:
            last = runs[-1][-1] if runs else None
            goes_on = last == block - 1 and job.grid.column(block - 1) == job.grid.column(block)
            if goes_on and len(runs[-1]) < longest:
                runs[-1].append(block)
            else:
                runs.append([block])
        return runs, len(share.empty), share.ready


def _compute(work: bytes, blocks: Sequence[int]) -> None:
    with _one_at_a_time:
        job = _job(work)
        job.compute([block for block in blocks if not job.ledger.is_finished(block)])


def _finish(work: bytes) -> bool:
    with _one_at_a_time:
        return _job(work).finish()
