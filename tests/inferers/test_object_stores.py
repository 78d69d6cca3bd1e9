"""Predictions in an object store keep the promises of a folder: same bytes, restart, refusal, verification."""

import os
import random
import signal
import time

import fsspec
import pytest
from fork_server import Forked
from zarr_helpers import TwoHeads, predictor, tree, volume

from monai_ext.errors import ConfigError, WriteError
from monai_ext.inferers import ZarrPrediction
from monai_ext.inferers.streaming.folder import ObjectFolder


def objects(url):
    """Bytes of every object below a URL by its name."""
    files, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
    return {name.removeprefix(root).strip("/"): files.cat_file(name) for name in files.find(root)}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    volume(folder / "in.zarr")
    predictor(pyramid_levels=1)(folder / "in.zarr", folder / "out")
    return folder


@pytest.fixture(scope="module")
def server():
    """The address of an S3 server of this process, with a bucket."""
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    running = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    with pytest.MonkeyPatch.context() as patched:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            patched.setenv(name, value)
        fsspec.filesystem("s3").mkdir("bucket")
        yield
    running.stop()


@pytest.fixture(params=[pytest.param("s3", marks=pytest.mark.slow), "memory"])
def output(request):
    if request.param == "s3":
        request.getfixturevalue("server")
    url = f"{request.param}://bucket/{random.randrange(10**9)}"
    yield url
    files, root = fsspec.core.url_to_fs(url)
    if files.exists(root):
        files.rm(root, recursive=True)


def test_the_objects_are_the_files_of_a_folder(undisturbed, output, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for part in (1, 0):
        done = predictor(pyramid_levels=1)(undisturbed / "in.zarr", output, part=part, parts=2)
    assert done.complete
    assert objects(output) == tree(undisturbed / "out")
    assert not list(tmp_path.iterdir())
    network = TwoHeads()
    again = predictor(network, pyramid_levels=1)(undisturbed / "in.zarr", output)
    assert (again.blocks, again.complete, network.calls) == (0, True, 0)
    with pytest.raises(ConfigError, match=rf"{output}: was begun with other settings \(overlap: there"):
        predictor(overlap=0.5)(undisturbed / "in.zarr", output)


def test_damage_is_found_and_repaired(undisturbed, output):
    predictor(pyramid_levels=1)(undisturbed / "in.zarr", output)
    assert ZarrPrediction(output).verify() == []
    files, root = fsspec.core.url_to_fs(output)
    files.rm_file(f"{root}/sheet.zarr/0/c/1/1/1")
    damaged = f"{root}/normals.zarr/0/c/0/3/1/1"
    content = bytearray(files.cat_file(damaged))
    content[len(content) // 2] ^= 4
    files.pipe_file(damaged, bytes(content))
    files.rm_file(f"{root}/ledger/blocks/00000002.json")
    problems = ZarrPrediction(output).verify(repair=True)
    assert [problem.message[:10] for problem in problems] == ["is missing", "level 0, r"]
    assert predictor(pyramid_levels=1)(undisturbed / "in.zarr", output).blocks == 3
    assert objects(output) == tree(undisturbed / "out")


@pytest.mark.slow
def test_workers_that_are_killed_at_random_leave_the_same_bytes(undisturbed, server):
    output = "s3://bucket/killed"
    files, root = fsspec.core.url_to_fs(output, use_listings_cache=False)

    def recorded():
        return len(files.find(f"{root}/ledger/blocks"))

    def start(rank):
        environment = {**os.environ, "RANK": str(rank), "WORLD_SIZE": "2"}
        return Forked(["slow_prediction", undisturbed / "in.zarr", output, 0.02], undisturbed, environment=environment)

    killed = 0
    for _ in range(3):
        before = recorded()
        workers = [start(rank) for rank in (0, 1)]
        # whatever the machine has to do, blocks are being written then
        while recorded() == before and all(worker.poll() is None for worker in workers):
            time.sleep(0.05)
        time.sleep(random.uniform(0, 0.5))
        for worker in workers:
            killed += worker.poll() is None
            worker.send_signal(signal.SIGKILL)
            worker.wait()
    assert killed
    last = [start(rank) for rank in (0, 1)]
    complete = [worker.stdout.read().split()[-1] for worker in last]
    assert [worker.wait() for worker in last] == [0, 0]
    assert "True" in complete
    assert objects(output) == tree(undisturbed / "out")


def test_a_store_that_overwrites_settings_is_refused(undisturbed, output, monkeypatch):
    put = ObjectFolder._put
    monkeypatch.setattr(ObjectFolder, "_put", lambda self, key, content, mode: put(self, key, content, "overwrite"))
    with pytest.raises(ConfigError, match="overwrites an object although it is asked not to"):
        predictor()(undisturbed / "in.zarr", output)


@pytest.mark.slow
def test_a_bucket_that_is_not_there_is_one_sentence(undisturbed, server):
    with pytest.raises(WriteError, match=r"s3://nowhere/out.*start again") as raised:
        predictor()(undisturbed / "in.zarr", "s3://nowhere/out")
    assert "\n" not in str(raised.value)
