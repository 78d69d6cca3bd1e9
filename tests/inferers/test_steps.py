"""Batches on their way to the network's threads."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import zarr
from zarr.storage import LocalStore
from zarr_helpers import predictor, tree, volume

from monai_ext.inferers.streaming import steps
from monai_ext.inferers.streaming.chunk_cache import ChunkCache, rectangles
from monai_ext.surface.demo import BLOCK, CHUNK


@pytest.mark.parametrize("raises", [True, False], ids=["failure", "break"])
def test_no_batch_begins_after_a_failure_or_a_break(raises, monkeypatch):
    left, begun = threading.Event(), []

    class Held(ThreadPoolExecutor):
        """The batches but the first go on when it is left."""

        def shutdown(self, wait=True, cancel_futures=False):
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            left.set()
            super().shutdown(wait=wait)

    def predictor(batch):
        begun.append(int(batch))
        if not batch:
            if raises:
                raise ZeroDivisionError
            return {}
        assert left.wait(60)
        return {}

    monkeypatch.setattr(steps, "ThreadPoolExecutor", Held)
    answers = steps.predicted([steps.Windows(torch.tensor(number), []) for number in range(9)], predictor)
    if raises:
        with pytest.raises(ZeroDivisionError):
            next(answers)
    else:
        next(answers)
        answers.close()
    # The thread of the first batch may have taken another one.
    assert set(begun) <= {0, 1}


@pytest.fixture
def asked(monkeypatch):
    """Bytes of each answer of a store to a request for chunks."""
    counts, get = [], LocalStore.get

    async def counted(self, key, prototype, byte_range=None):
        answer = await get(self, key, prototype, byte_range)
        counts.append(len(answer) if answer is not None and "c/" in key else 0)
        return answer

    monkeypatch.setattr(LocalStore, "get", counted)
    return counts


@pytest.mark.parametrize(
    ("cache", "least", "most"), [(1.0, 1.0, 1.1), (0.0, 1.4, 2.0)], ids=["with the cache", "without"]
)
def test_each_chunk_of_the_demo_s_layout_is_read_about_once(tmp_path, asked, cache, least, most):
    """Sharded as the demo's input: four tile columns, whose windows reach into each other."""
    shape = (64, 2 * BLOCK, 2 * BLOCK)
    layout = {"chunks": (CHUNK,) * 3, "shards": (64, BLOCK, BLOCK)}
    values = np.random.default_rng(0).integers(1, 255, shape).astype(np.uint8)
    zarr.create_array(tmp_path / "in.zarr", data=values, **layout)
    options = {"roi_size": (32, 48, 48), "chunk_size": 128, "block_size": 128, "input_cache_gib": cache}
    job = predictor(**options).job(tmp_path / "in.zarr", tmp_path / "out")
    asked.clear()
    for _ in job.steps.of(range(4)):
        pass
    stored = sum(path.stat().st_size for path in (tmp_path / "in.zarr" / "c").rglob("*") if path.is_file())
    assert least <= sum(asked) / stored <= most


def test_a_full_cache_costs_requests_and_no_byte(tmp_path):
    volume(tmp_path / "in.zarr")
    for cache in (0.0, 2e-6, 1.0):
        predictor(input_cache_gib=cache, chunk_size=16, block_size=16)(tmp_path / "in.zarr", tmp_path / str(cache))
    assert tree(tmp_path / "0.0") == tree(tmp_path / "2e-06") == tree(tmp_path / "1.0")


def test_a_chunk_is_kept_while_a_column_needs_it_and_there_is_room():
    cache, chunk = ChunkCache(20), np.zeros((2, 2, 2), np.uint8)
    for number in range(3):
        cache.put((0, 0, number), chunk, until=number + 1)
    assert [cache.get((0, 0, number)) is not None for number in range(3)] == [True, True, False]
    cache.forget(before=2)
    cache.put((0, 0, 2), chunk, until=3)
    assert [cache.get((0, 0, number)) is not None for number in range(3)] == [False, True, True]


def test_rectangles_cover_what_is_wanted_once():
    wanted = np.random.default_rng(0).random((9, 7)) > 0.4
    covered = np.zeros(wanted.shape, int)
    for y, x in rectangles(wanted):
        covered[y, x] += 1
    assert np.array_equal(covered, wanted)
    assert len(list(rectangles(np.ones((3, 4), bool)))) == 1
