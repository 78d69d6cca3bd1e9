import gc
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import Dataset
from monai.transforms import Compose, RandFlipd, RandGaussianNoised
from processes import descendants, left_of

from monai_ext.data import SeededDataset, SeededLoader
from monai_ext.data.loader import UNKNOWN, EpochSampler, collate


def dataset(size=10):
    items = [{"image": torch.full((1, 4, 4), float(i)), "case": str(i)} for i in range(size)]
    return Dataset(items, Compose([RandFlipd("image", prob=0.5), RandGaussianNoised("image", prob=1.0)]))


def epoch(loader, number):
    loader.sampler.set_epoch(number)
    return [(batch["case"], batch["index"].tolist(), batch["image"].clone()) for batch in loader]


def same(a, b):
    return [x[:2] for x in a] == [x[:2] for x in b] and all(torch.equal(x[2], y[2]) for x, y in zip(a, b, strict=True))


def test_a_sample_is_a_function_of_seed_epoch_and_index():
    first, second = SeededDataset(dataset(), seed=3), SeededDataset(dataset(), seed=3)
    first[(1, 4)]  # what was drawn before doesn't matter
    assert torch.equal(first[(2, 7)]["image"], second[(2, 7)]["image"])
    assert not torch.equal(first[(2, 7)]["image"], first[(3, 7)]["image"])
    assert not torch.equal(first[(2, 7)]["image"], SeededDataset(dataset(), seed=4)[(2, 7)]["image"])


@pytest.mark.parametrize("persistent", [True, False], ids=["persistent", "fresh"])
def test_the_number_of_workers_changes_nothing(persistent):
    alone = SeededLoader(dataset(), 3, shuffle=True, seed=1)
    workers = SeededLoader(dataset(), 3, shuffle=True, seed=1, num_workers=2, persistent_workers=persistent)
    for number in (1, 2):
        assert same(epoch(alone, number), epoch(workers, number))


def test_epochs_differ_and_repeat_by_number():
    loader = SeededLoader(dataset(), 3, shuffle=True, seed=1)
    first, second = epoch(loader, 1), epoch(loader, 2)
    assert not same(first, second)
    assert same(first, epoch(loader, 1))


def test_an_evaluation_is_the_same_in_every_epoch():
    loader = SeededLoader(dataset(), 3, seed=1)
    assert same(epoch(loader, 1), epoch(loader, 2))


def test_skipped_batches_are_left_out_once():
    loader = SeededLoader(dataset(), 2, shuffle=True, seed=1)
    whole = epoch(loader, 1)
    loader.skip_batches(2)
    assert same(epoch(loader, 1), whole[2:])
    assert same(epoch(loader, 1), whole)


@pytest.mark.parametrize(("size", "batch", "expected"), [(10, 3, 3), (2, 3, 1), (9, 3, 3)])
def test_training_drops_the_incomplete_batch_unless_it_is_the_only_one(size, batch, expected):
    assert len(SeededLoader(dataset(size), batch, shuffle=True)) == expected


def test_evaluation_sees_every_case_once_in_order():
    cases = [case for batch, _, _ in epoch(SeededLoader(dataset(), 3), 1) for case in batch]
    assert cases == [str(i) for i in range(10)]


def test_an_epoch_can_be_limited():
    loader = SeededLoader(dataset(), 2, shuffle=True, max_batches=3)
    assert len(loader) == 3
    assert len(epoch(loader, 1)) == 3
    seen = {index for number in range(1, 9) for _, indices, _ in epoch(loader, number) for index in indices}
    assert seen == set(range(10))


def shares(size, ranks, **arguments):
    samplers = [EpochSampler(size, **arguments) for _ in range(ranks)]
    for rank, sampler in enumerate(samplers):
        sampler.num_replicas, sampler.rank = ranks, rank
    return [[index for _, index in sampler] for sampler in samplers]


def test_processes_share_an_evaluation_without_repeats():
    parts = shares(7, 3, shuffle=False, seed=0)
    assert sorted(np.concatenate(parts).tolist()) == list(range(7))


def test_processes_train_on_equal_shares():
    parts = shares(7, 2, shuffle=True, seed=0, equal_shares=True)
    assert [len(part) for part in parts] == [3, 3]
    assert len(set(parts[0]) | set(parts[1])) == 6


def test_a_process_without_a_case_repeats_one():
    assert shares(1, 2, shuffle=False, seed=0) == [[0], [0]]


def test_items_without_a_label_can_share_a_batch_with_labelled_ones():
    items = [{"image": torch.zeros(1, 2)}, {"image": torch.zeros(1, 2), "label": 1}, {"image": torch.zeros(1, 2)}]
    batches = list(SeededLoader(Dataset(items), 2))
    assert batches[0]["label"].tolist() == [UNKNOWN, 1]
    assert "label" not in batches[1]


def test_a_limited_evaluation_sees_samples_from_all_over_the_data():
    loader = SeededLoader(dataset(10), 2, max_batches=2)
    assert [index for _, found, _ in epoch(loader, 1) for index in found] == [0, 3, 6, 9]


def test_unknown_labels_have_the_shape_of_the_known_ones():
    several = collate([{"case": "a"}, {"case": "b", "label": torch.tensor([1.0, 0.0])}])["label"]
    assert several.tolist() == [[UNKNOWN, UNKNOWN], [1.0, 0.0]]
    one = collate([{"case": "a", "label": 1}, {"case": "b"}])["label"]
    assert one.tolist() == [1, UNKNOWN]


@pytest.mark.parametrize(
    ("device", "pinned"),
    [("cpu", False), ("cuda", True), ("cuda:1", True), (torch.device("cuda:1"), True), (None, True)],
)
def test_memory_is_pinned_for_a_gpu_only(monkeypatch, device, pinned):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert SeededLoader(dataset(), 2, device=device).pin_memory is pinned


def test_nothing_is_pinned_without_a_gpu():
    assert SeededLoader(dataset(), 2).pin_memory is torch.cuda.is_available()


def test_a_loader_collected_in_a_cycle_ends_its_workers_at_once(monkeypatch):
    loader = SeededLoader(dataset(), batch_size=2, num_workers=1)
    batches = iter(loader)
    next(batches)
    (worker,) = batches._workers
    # as engines hold it; the iterator alone would wait for its worker in vain (5 seconds) and then kill it
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 2.0)
    killed = []
    monkeypatch.setattr(type(worker), "terminate", killed.append)
    cycle = {"loader": loader, "batches": batches}
    cycle["cycle"] = cycle
    del loader, batches, cycle
    gc.collect()
    assert not killed
    assert not worker.is_alive()


def test_a_loader_that_nobody_else_holds_gives_all_its_batches():
    assert len([batch for batch in SeededLoader(dataset(), batch_size=2, num_workers=1)]) == 5


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="loader processes are forked on Linux")
def test_loader_processes_end_when_their_parent_is_killed_though_nobody_takes_their_batches(tmp_path):
    process = subprocess.Popen([sys.executable, Path(__file__).with_name("waiting_loader.py"), tmp_path])
    while len(list(tmp_path.glob("*.loaded"))) < 8 and process.poll() is None:
        time.sleep(0.05)
    workers = descendants(process.pid)
    assert len(workers) == 2
    process.kill()
    process.wait()
    left = left_of(workers)
    for one in left:
        one.kill()
    assert left == []


def test_a_loader_process_still_calls_what_was_given_for_its_start():
    loader = SeededLoader(dataset(), batch_size=2, num_workers=1, worker_init_fn=refuse_to_start)
    with pytest.raises(RuntimeError, match="no such device in worker 0"):
        next(iter(loader))


def refuse_to_start(worker):
    raise RuntimeError(f"no such device in worker {worker}")
