"""Blocks of work on threads, processes and Dask: what is left out, what is lost, and what ends when."""

import io
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import blocks_work
import pytest
import tqdm
from processes import descendants, left_of

from monai_ext.blocks import WorkerLost, run_blocks, run_in_order
from monai_ext.data.checks import run_checks
from monai_ext.error_report import describe
from monai_ext.errors import ConfigError
from monai_ext.places import Dask, Place, Processes, Threads, place_of, processes_for

SQUARES = [number * number for number in range(12)]


@pytest.fixture(params=["this thread", "threads", "processes", "dask"])
def place(request):
    if request.param == "dask":
        distributed = pytest.importorskip("distributed")
        options = {"n_workers": 2, "threads_per_worker": 1, "processes": False, "dashboard_address": None}
        with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
            yield Dask(client)
    else:
        yield {"this thread": Threads(1), "threads": Threads(2), "processes": Processes(2)}[request.param]


def error_of(block, error):
    return type(error), block


def test_every_place_gives_the_same(place):
    assert run_in_order(blocks_work.square, range(12), place, "squares") == SQUARES
    assert run_in_order(blocks_work.square, [], place, "squares") == []


def test_a_failure_ends_the_run_and_names_its_block(place):
    with pytest.raises(ZeroDivisionError) as caught:
        run_in_order(blocks_work.fail, range(12), place, "squares", "volume")
    assert "in volume 4 of 12: 3" in describe(caught.value)[0]


def test_failures_become_results_where_that_is_wanted(place):
    results = run_in_order(blocks_work.fail, range(12), place, "squares", failed=error_of)
    assert results == [*SQUARES[:3], (ZeroDivisionError, 3), *SQUARES[4:]]


def test_the_bar_counts_every_block_and_is_for_terminals(monkeypatch):
    bars = []

    class Bar(tqdm.tqdm):
        def __init__(self, *arguments, **options):
            bars.append((self, options))
            super().__init__(*arguments, **{**options, "disable": False, "file": io.StringIO()})

    monkeypatch.setattr(tqdm, "tqdm", Bar)
    run_in_order(blocks_work.square, range(12), Threads(2), "squares", "volume")
    ((bar, options),) = bars
    assert (bar.n, bar.total, bar.desc, bar.unit) == (12, 12, "squares", "volume")
    assert options["disable"] is None  # tqdm's word for "where it is no terminal"


def test_the_problems_of_a_check_come_in_the_order_of_its_cases():
    last = threading.Event()

    def check(number):
        if number == 0:
            last.wait(60)
        elif number == 3:
            last.set()
        return [f"{number} a", f"{number} b"]

    found = run_checks(check, [{"number": number} for number in range(4)], 2)
    assert found == [f"{number} {letter}" for number in range(4) for letter in "ab"]


def test_results_come_before_slower_blocks_are_done():
    slow = threading.Event()

    def work(number):
        if number == 0:
            assert slow.wait(60)
        return number

    results = run_blocks(work, range(3), Threads(2), "blocks")
    first = [next(results)[0], next(results)[0]]
    slow.set()
    assert sorted(first) == [1, 2]
    assert list(results) == [(0, 0)]


class Counted(Place):
    """One block at a time; counts the ones that were submitted and aren't done."""

    def __init__(self, at_once):
        self.at_once, self.submitted, self.most = at_once, 0, 0

    def open(self):
        place = self

        class Counting(ThreadPoolExecutor):
            def submit(self, *args):
                place.submitted += 1
                place.most = max(place.most, place.submitted)
                return super().submit(*args)

        return Counting(1)


@pytest.mark.parametrize("at_once", [1, 3])
def test_no_more_blocks_are_submitted_than_the_place_takes(at_once):
    place = Counted(at_once)
    for _ in run_blocks(blocks_work.square, range(50), place, "squares"):
        place.submitted -= 1
    assert place.most == at_once


class Held(Place):
    """Two threads, whose blocks but the first go on when the place is left; two more blocks lie ready."""

    at_once = 4

    def __init__(self):
        self.left = threading.Event()

    def open(self):
        place = self

        class Holding(ThreadPoolExecutor):
            def shutdown(self):
                place.left.set()
                super().shutdown()

        return Holding(2)


@pytest.mark.parametrize("raises", [True, False], ids=["failure", "break"])
def test_nothing_begins_after_a_failure_or_a_break(raises):
    place, begun = Held(), set()

    def work(number):
        begun.add(number)
        if number == 0:
            if raises:
                raise ZeroDivisionError
            return
        assert place.left.wait(60)

    results = run_blocks(work, range(9), place, "blocks")
    if raises:
        with pytest.raises(ZeroDivisionError):
            next(results)
    else:
        next(results)
        results.close()
    # The thread of the first block had taken another one.
    assert begun <= {0, 1, 2}


@pytest.mark.parametrize("number_of_signal", [signal.SIGKILL, signal.SIGSEGV], ids=["kill", "crash"])
def test_a_killed_worker_costs_its_own_block_only(number_of_signal):
    work = partial(blocks_work.die, ends=3, number_of_signal=number_of_signal)
    results = run_in_order(work, range(12), Processes(4), "squares", failed=error_of)
    assert results == [*SQUARES[:3], (WorkerLost, 3), *SQUARES[4:]]


def test_a_block_whose_worker_was_killed_once_is_computed_again(tmp_path):
    work = partial(blocks_work.die_once, folder=tmp_path)
    assert run_in_order(work, range(12), Processes(2), "squares") == SQUARES
    assert (tmp_path / "died").exists()


def test_a_worker_that_the_pool_overlooks_when_it_breaks_is_not_waited_for(tmp_path, monkeypatch):
    # as one that starts while the others are being ended
    monkeypatch.setattr("multiprocessing.process.BaseProcess.terminate", lambda process: None)
    work = partial(blocks_work.stay_once, folder=tmp_path)
    assert run_in_order(work, range(4), Processes(2), "squares") == SQUARES[:4]
    assert not (tmp_path / "stayed").exists()


def test_a_lost_block_ends_the_run_where_nothing_stands_for_it():
    with pytest.raises(WorkerLost, match="was killed; try fewer --workers") as caught:
        run_in_order(partial(blocks_work.die, ends=3), range(5), Processes(2), "squares")
    assert "in case 4 of 5: 3" in describe(caught.value)[0]


def test_workers_that_cannot_start_are_one_error():
    with pytest.raises(ConfigError, match="end as soon as they start"):
        run_in_order(blocks_work.square, range(12), Processes(2, setup=blocks_work.refuse), "squares", failed=error_of)


@pytest.mark.parametrize(("workers", "expected"), [(None, "default"), (0, 0), (3, 3)])
def test_a_number_of_workers_makes_a_local_place(workers, expected, monkeypatch):
    monkeypatch.setattr("monai_ext.places.default_workers", lambda: "default")
    place = Threads(1)
    assert place_of(workers, lambda number: ("local", number)) == ("local", expected)
    assert place_of(place, lambda number: ("local", number)) is place


@pytest.mark.parametrize("place", [Threads, Processes, lambda number: place_of(number, Threads)])
def test_a_negative_number_of_workers_is_refused(place):
    with pytest.raises(ConfigError, match="--workers -1: must be 0 or more"):
        place(-1)


def at_once(work):
    future = Future()
    future.set_result(work())
    return future


def test_while_other_processes_start_blocks_are_computed_here(monkeypatch):
    monkeypatch.setattr("monai_ext.places.default_workers", lambda: 2)
    monkeypatch.setattr("monai_ext.places._START_SECONDS", 0.0)
    begun = threading.Event()
    start = ProcessPoolExecutor.submit

    def start_late(executor, work, *arguments):
        begun.wait(60)
        return start(executor, work, *arguments)

    monkeypatch.setattr(ProcessPoolExecutor, "submit", start_late)
    here, there = [], []
    # So many that they take minutes: those that come after the first results of other processes aren't computed.
    count = 50_000
    for number, process in run_blocks(blocks_work.process_of, range(count), processes_for(None, count, ()), "numbers"):
        (here if process == os.getpid() else there).append(number)
        if number == 2:
            begun.set()
        if len(there) == 20:
            break
        time.sleep(0.005)
    assert len(there) == 20
    assert len(here) >= 3
    assert sorted(here) == list(range(len(here))), "once they have started all go to them"


def test_processes_that_cannot_start_fail_only_what_needs_them(monkeypatch):
    monkeypatch.setattr("monai_ext.places._START_SECONDS", 0.0)
    place = Processes(2, setup=blocks_work.refuse, few=2)
    found = run_in_order(blocks_work.process_of, range(2), place, "numbers")
    assert found == [os.getpid()] * 2


@pytest.mark.parametrize(("workers", "others_saved", "here"), [(None, 1e9, 6), (None, 0.0, 1), (2, 1e9, 0)])
def test_by_default_other_processes_start_when_the_first_block_shows_that_they_are_worth_it(
    workers, others_saved, here, monkeypatch
):
    monkeypatch.setattr("monai_ext.places.default_workers", lambda: 2)
    monkeypatch.setattr("monai_ext.places._START_SECONDS", others_saved)
    monkeypatch.setattr("monai_ext.places._in_background", at_once)
    found = run_in_order(blocks_work.process_of, range(6), processes_for(workers, 6, ()), "numbers")
    assert [process == os.getpid() for process in found] == [True] * here + [False] * (6 - here)


def test_a_worker_that_dies_after_the_first_block_loses_its_own_block_only(tmp_path, monkeypatch):
    monkeypatch.setattr("monai_ext.places.default_workers", lambda: 2)
    monkeypatch.setattr("monai_ext.places._START_SECONDS", 0.0)
    monkeypatch.setattr("monai_ext.places._in_background", at_once)
    place = processes_for(None, 5, ())
    found = run_in_order(partial(blocks_work.die, ends=3), range(5), place, "squares", failed=error_of)
    assert [found[number] for number in (0, 1, 2, 4)] == [0, 1, 4, 16]
    assert found[3] == (WorkerLost, 3)


@pytest.fixture
def waiting(tmp_path):
    """A program two of whose nine blocks have begun and wait for the file ``go``."""
    program = [sys.executable, blocks_work.__file__, str(tmp_path)]
    process = subprocess.Popen(program, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while len(list(tmp_path.glob("*.begun"))) < 2 and process.poll() is None:
        time.sleep(0.02)
    below = descendants(process.pid)
    yield process, below
    process.kill()
    process.wait()
    for one in left_of(below, seconds=0):
        one.kill()
    process.stderr.close()


def names(folder: Path, suffix: str) -> set[str]:
    return {path.stem for path in folder.glob(f"*.{suffix}")}


@pytest.mark.skipif(sys.platform != "linux", reason="the server process is Linux's")
def test_workers_and_their_server_end_when_their_parent_is_killed(waiting):
    process, below = waiting
    assert len(below) >= 4  # resource tracker, server and two workers
    process.kill()
    assert left_of(below) == []


def test_an_interruption_lets_blocks_end_that_have_begun_and_begins_no_others(waiting, tmp_path):
    process, below = waiting
    process.send_signal(signal.SIGINT)
    (tmp_path / "go").touch()
    assert process.wait(timeout=60) == 130
    assert names(tmp_path, "begun") == names(tmp_path, "done") == {"0", "1"}
    assert left_of(below) == []


def test_ctrl_c_at_a_terminal_ends_the_workers_at_once_and_without_tracebacks(waiting, tmp_path):
    process, below = waiting
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert process.stderr.read() == "error: interrupted\n"
    assert names(tmp_path, "begun") == {"0", "1"}
    assert names(tmp_path, "done") == set()
    assert left_of(below) == []


@pytest.mark.slow
def test_a_killed_dask_worker_costs_its_own_block_only(monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path]))
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, Dask(cluster.scheduler_address) as place:
        results = run_in_order(partial(blocks_work.die, ends=3), range(12), place, "squares", failed=error_of)
    assert results == [*SQUARES[:3], (WorkerLost, 3), *SQUARES[4:]]


@pytest.mark.parametrize("error", [OSError("Timed out"), ValueError("unknown scheme")])
def test_an_address_without_a_scheduler_is_refused(error, monkeypatch):
    distributed = pytest.importorskip("distributed")

    def refused(*_, **__):
        raise error

    monkeypatch.setattr(distributed, "Client", refused)
    with pytest.raises(ConfigError, match=r"--dask tcp://127.0.0.1:9: no scheduler answers there"):
        Dask("tcp://127.0.0.1:9")


def test_a_cluster_without_workers_is_refused():
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 0, "processes": False, "dashboard_address": None}
    with (
        distributed.LocalCluster(**options) as cluster,
        distributed.Client(cluster) as client,
        pytest.raises(ConfigError, match="has no workers"),
    ):
        Dask(client)
