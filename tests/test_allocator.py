"""Freed memory stays with a process, whatever its threads; its pages aren't zeroed anew for every array."""

import os
import subprocess
import sys

import blocks_work
import pytest

from monai_ext import workflow
from monai_ext.blocks import run_in_order
from monai_ext.places import Processes

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="page faults are counted as on Linux")
ARRAYS = """
import sys
from concurrent.futures import ThreadPoolExecutor
import blocks_work
from monai_ext.allocator import keep_freed_memory, release_freed_memory

if "kept" in sys.argv[1]:
    keep_freed_memory()
if "given back" in sys.argv[1]:
    keep_freed_memory(False)
with ThreadPoolExecutor(1) as thread:
    print(blocks_work.faults_of_arrays(0), thread.submit(blocks_work.faults_of_arrays, 0).result())
before = blocks_work.resident()
release_freed_memory()
print(before - blocks_work.resident())
"""


def faults(kept, **environment):
    """Page faults of later arrays in the main thread and in another one, and what was given back in the end."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", ARRAYS, kept],
        env={**inherited, "PYTHONPATH": os.path.dirname(__file__), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return [int(number) for number in done.stdout.split()]


def test_later_arrays_take_the_pages_of_earlier_ones():
    main, thread, given_back = faults("kept")
    assert max(main, thread) < blocks_work.PAGES / 10
    assert given_back > blocks_work.PAGES / 2
    assert min(faults("as it comes")[:2]) > 5 * blocks_work.PAGES, "then this test sees nothing"


@pytest.mark.parametrize(
    "environment", [{"MALLOC_TRIM_THRESHOLD_": "131072"}, {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=131072"}]
)
def test_what_the_environment_says_stands(environment):
    assert min(faults("kept", **environment)[:2]) > 5 * blocks_work.PAGES


def test_every_config_and_every_worker_process_keeps_its_memory(monkeypatch):
    called = []
    monkeypatch.setattr(workflow, "keep_freed_memory", lambda: called.append(True))
    workflow.check_settings()
    assert called
    assert max(run_in_order(blocks_work.faults_of_arrays, range(2), Processes(2), "arrays")) < blocks_work.PAGES / 10


def test_a_process_can_go_back_to_what_glibc_does():
    assert min(faults("kept and given back")[:2]) > 5 * blocks_work.PAGES
