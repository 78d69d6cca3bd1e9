"""Zarr inference that is killed, runs out of disk, or meets damaged input (R5, R7, R16; S16, S17)."""

import errno
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import zarr
from fork_server import Forked
from zarr.storage import LocalStore

from monai_ext.errors import DataError, WriteError
from monai_ext.inferers import ZarrPrediction

sys.path.insert(0, str(Path(__file__).parents[1] / "inferers"))
from zarr_helpers import TwoHeads, predictor, tree, volume

pytestmark = pytest.mark.slow
SHAPE = (64, 40, 40)


def start(source, output, seconds=0.0, **environment):
    return Forked(["slow_prediction", source, output, seconds], source.parent, environment=environment)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    volume(folder / "in.zarr", SHAPE)
    network = TwoHeads()
    predictor(network, pyramid_levels=1)(folder / "in.zarr", folder / "out")
    return folder, network.calls


def test_kill_9_at_five_random_moments_and_again_gives_the_same_bytes(undisturbed, tmp_path):
    folder, calls = undisturbed
    output = tmp_path / "out"
    for _ in range(5):
        process = start(folder / "in.zarr", output, 0.02)
        assert process.stdout.readline() == "begins\n"
        time.sleep(random.uniform(0.2, 0.8))
        assert process.poll() is None, "it was over before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
    missing = len(ZarrPrediction(output).missing_blocks())
    assert 0 < missing < 72
    last = start(folder / "in.zarr", output)
    out = last.stdout.read()
    assert last.wait() == 0, out
    count, complete = out.splitlines()[-1].split()
    assert complete == "True"
    # finished blocks are not computed again: what is left costs its own windows, and one layer more where it begins
    assert int(count) <= calls * missing / 72 + calls / 8
    assert tree(output) == tree(folder / "out")


def test_two_processes_at_once_write_what_one_writes(undisturbed, tmp_path):
    folder, calls = undisturbed
    ranks = [start(folder / "in.zarr", tmp_path / "out", 0.01, RANK=str(rank), WORLD_SIZE="2") for rank in (0, 1)]
    lines = []
    for process in ranks:
        out = process.stdout.read()
        assert process.wait() == 0, out
        lines.append(out.splitlines()[-1].split())
    assert "True" in {complete for _, complete in lines}
    # a column that both work on begins twice
    assert sum(int(count) for count, _ in lines) <= calls * 1.1
    assert tree(tmp_path / "out") == tree(folder / "out")


def test_what_killed_writers_left_is_swept(undisturbed, tmp_path):
    folder, _ = undisturbed
    predict = predictor(pyramid_levels=1)
    predict(folder / "in.zarr", tmp_path / "out", part=0, parts=2)
    left = tmp_path / "out" / "sheet.zarr" / "0" / "c" / "0" / "0" / "0.0123456789abcdef.partial"
    left.write_bytes(b"half a chunk")
    assert predict(folder / "in.zarr", tmp_path / "out", part=1, parts=2).complete
    assert tree(tmp_path / "out") == tree(folder / "out")


def test_a_chunk_without_its_record_is_no_proof(undisturbed, tmp_path):
    folder, _ = undisturbed
    job = predictor(pyramid_levels=1).job(folder / "in.zarr", tmp_path / "out")
    job.store.write("sheet", job.grid.region(5), np.full((8, 16, 16), 9, np.uint8))
    predictor(pyramid_levels=1)(folder / "in.zarr", tmp_path / "out")
    assert tree(tmp_path / "out") == tree(folder / "out")


def test_a_full_disk_is_one_error_naming_the_store_and_loses_nothing(undisturbed, tmp_path, monkeypatch):
    folder, calls = undisturbed
    output = tmp_path / "out"
    write, written = LocalStore.set, []

    async def full(self, key, value):
        if "/c/" in f"/{key}":
            written.append(key)
            if len(written) > 60:
                raise OSError(errno.ENOSPC, "No space left on device")
        await write(self, key, value)

    monkeypatch.setattr(LocalStore, "set", full)
    with pytest.raises(WriteError, match=r"could not write .*\.zarr: No space left on device; .* start again"):
        predictor(pyramid_levels=1)(folder / "in.zarr", output)
    monkeypatch.undo()
    assert 0 < len(ZarrPrediction(output).missing_blocks()) < 72
    assert ZarrPrediction(output).verify() == []
    network = TwoHeads()
    assert predictor(network, pyramid_levels=1)(folder / "in.zarr", output).complete
    assert network.calls < calls
    assert tree(output) == tree(folder / "out")


LIMITED = """
import resource, sys
sys.path.insert(0, sys.argv[1])
from zarr_helpers import predictor
from monai_ext.errors import WriteError
job = predictor().job(sys.argv[2], sys.argv[3])
# In a process of its own: the limit holds for every file of the process.
resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
try:
    job.compute(range(4))
except WriteError as error:
    print(error)
"""


def test_a_real_limit_leaves_no_chunk_behind(undisturbed, tmp_path):
    folder, _ = undisturbed
    helpers = str(Path(__file__).parents[1] / "inferers")
    command = [sys.executable, "-c", LIMITED, helpers, str(folder / "in.zarr"), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("could not write "), done.stderr
    assert ".zarr: File too large" in done.stdout
    chunks = [path for path in (tmp_path / "out" / "normals.zarr" / "0").rglob("c/**/*") if path.is_file()]
    assert not chunks


def test_an_unreadable_chunk_is_named_and_the_other_blocks_stay(undisturbed, tmp_path):
    folder, _ = undisturbed
    values = volume(tmp_path / "in.zarr", SHAPE)
    chunk = tmp_path / "in.zarr" / "c" / "6" / "1" / "4"
    chunk.write_bytes(chunk.read_bytes()[:50])
    with pytest.raises(DataError, match=r"in\.zarr: the region \[48:64, .*\] can't be read .*start again") as raised:
        predictor(pyramid_levels=1)(tmp_path / "in.zarr", tmp_path / "out")
    assert raised.value.path == tmp_path / "in.zarr"
    assert 0 < len(ZarrPrediction(tmp_path / "out").missing_blocks()) < 72
    assert ZarrPrediction(tmp_path / "out").verify() == []
    whole = zarr.open_array(folder / "out" / "sheet.zarr" / "0", mode="r")[:]
    found = zarr.open_array(tmp_path / "out" / "sheet.zarr" / "0", mode="r")[:]
    assert np.array_equal(found[:32, :16, :16], whole[:32, :16, :16])
    assert values.shape == found.shape
