"""A Dask cluster writes the bytes that one process writes, also when it loses a worker."""

import os
import pickle
import signal
import sys
import time
from functools import partial
from pathlib import Path
from threading import Thread

import pytest
import zarr
import zarr_helpers
from zarr_helpers import predictor, tree, volume

from monai_ext.errors import ConfigError, UserError
from monai_ext.inferers import ZarrPrediction, predict_on_dask
from monai_ext.inferers.streaming import dask as on_dask
from monai_ext.inferers.streaming.job import PredictionJob

pytestmark = pytest.mark.slow


class Slow(zarr_helpers.TwoHeads):
    """As `TwoHeads`, and leaves the number of its process when it is made."""

    def __init__(self, folder, seconds):
        super().__init__()
        self.seconds = seconds
        (Path(folder) / f"{os.getpid()}.worker").touch()

    def forward(self, x):
        time.sleep(self.seconds)
        return super().forward(x)


class Deadly(zarr_helpers.TwoHeads):
    def forward(self, x):
        if x.min() == 255:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(x)


for network in (Slow, Deadly):
    network.__name__ = "TwoHeads"


def slow(folder, seconds):
    return predictor(Slow(folder, seconds), pyramid_levels=1)


def deadly():
    return predictor(Deadly())


@pytest.fixture(scope="module")
def client():
    distributed = pytest.importorskip("distributed")
    import dask

    # A worker that starts imports torch: let a run of blocks end two workers, not four.
    few = dask.config.set({"distributed.scheduler.allowed-failures": 1})
    with few, pytest.MonkeyPatch.context() as environment:
        # Workers, those too that take a lost one's place, import this file.
        environment.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path]))
        options = {"threads_per_worker": 1, "processes": True, "dashboard_address": None}
        with distributed.LocalCluster(n_workers=2, **options) as cluster, distributed.Client(cluster) as client:
            yield client


def test_a_lost_worker_changes_nothing(client, tmp_path):
    volume(tmp_path / "in.zarr", (40, 40, 40))
    predictor(pyramid_levels=1)(tmp_path / "in.zarr", tmp_path / "one")
    lost = []

    def lose_one():
        while len(workers := list(tmp_path.glob("*.worker"))) < 2:
            time.sleep(0.05)
        time.sleep(0.5)
        lost.append(int(workers[0].stem))
        os.kill(lost[0], signal.SIGKILL)

    killer = Thread(target=lose_one)
    killer.start()
    done = predict_on_dask(client, partial(slow, tmp_path, 0.05), tmp_path / "in.zarr", tmp_path / "out")
    killer.join()
    assert lost
    assert done.complete
    assert tree(tmp_path / "out") == tree(tmp_path / "one")


def test_a_task_that_is_done_again_leaves_out_recorded_blocks(tmp_path, monkeypatch):
    volume(tmp_path / "in.zarr", (16, 16, 16))
    work = pickle.dumps((predictor, str(tmp_path / "in.zarr"), str(tmp_path / "out"), {}))
    (task, *_), _, _ = on_dask._plan(work, 1)
    assert len(task) > 1
    on_dask._compute(work, task[:1])
    computed, compute = [], PredictionJob.compute
    monkeypatch.setattr(PredictionJob, "compute", lambda self, blocks: computed.extend(blocks) or compute(self, blocks))
    on_dask._compute(work, task)
    on_dask._compute(work, task)
    assert computed == task[1:]


def test_a_block_that_ends_every_worker_is_named(client, tmp_path):
    values = volume(tmp_path / "in.zarr", (16, 16, 16))
    values[8:] = 255
    zarr.open_array(tmp_path / "in.zarr", mode="r+")[:] = values
    with pytest.raises(UserError, match=r"block 1 ended every worker that computed it"):
        predict_on_dask(client, deadly, tmp_path / "in.zarr", tmp_path / "out")
    assert ZarrPrediction(tmp_path / "out").missing_blocks() == [1]


def test_an_address_without_a_scheduler_is_refused(tmp_path, monkeypatch):
    import distributed

    def refused(*_, **__):
        raise OSError("Timed out")

    monkeypatch.setattr(distributed, "Client", refused)
    with pytest.raises(ConfigError, match="no scheduler answers"):
        predict_on_dask("tcp://127.0.0.1:9", deadly, tmp_path / "in.zarr", tmp_path / "out")
