import json
import os
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from socket import socket
from urllib.error import URLError
from urllib.request import Request, urlopen

import mlflow
import numpy as np
import pytest
import torch
from torch import nn

from monai_ext.mlflow_network import write_network
from monai_ext.networks import VGG3D, CordUNet, SurfaceUNet

TARGETS = {"sheet": {"channels": 1}, "normals": {"channels": 3}}


def by_name(output):
    return output if isinstance(output, dict) else {None: output}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "shape", "others", "taken", "given"),
    [
        (
            CordUNet(depth=2, features=4),
            (1, 64, 64),
            [(1, 1, 64, 64), (3, 1, 24, 32)],
            (-1, 1, -1, -1),
            {None: (-1, 1, -1, -1)},
        ),
        (
            SurfaceUNet(targets=TARGETS, f_maps=[4, 8]),
            (1, 64, 192, 192),
            [(1, 1, 8, 8, 8), (2, 1, 8, 12, 16)],
            (-1, 1, -1, -1, -1),
            {"sheet": (-1, 1, -1, -1, -1), "normals": (-1, 3, -1, -1, -1)},
        ),
        (
            VGG3D((40, 40, 40), fmaps=2),
            (1, 40, 40, 40),
            [(1, 1, 40, 40, 40)],
            (-1, 1, 40, 40, 40),
            {None: (-1, 7)},
        ),
        (
            nn.Sequential(nn.Conv2d(1, 2, 4, 4), nn.Conv2d(2, 2, 8, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval(),
            (1, 128, 128),
            [(1, 1, 128, 128), (3, 1, 96, 64)],
            (-1, 1, -1, -1),
            {None: (-1, 2)},
        ),
    ],
    ids=["one tensor", "several targets", "one size only", "small images shrink to one pixel"],
)
def test_mlflow_loads_and_serves_what_was_written(network, shape, others, taken, given, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    write_network(network, shape, tmp_path / "model")
    loaded = mlflow.pytorch.load_model(str(tmp_path / "model"))
    with torch.no_grad():
        for other in others:
            images = torch.randn(other, generator=torch.Generator().manual_seed(0))
            expected, found = by_name(network(images)), by_name(loaded(images))
            assert expected.keys() == found.keys()
            assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    served = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    signature = served.metadata.signature
    assert [spec.shape for spec in signature.inputs.inputs] == [taken]
    assert {spec.name: spec.shape for spec in signature.outputs.inputs} == given
    example = served.metadata.load_input_example(str(tmp_path / "model"))
    assert max(example.shape) <= 64
    with torch.no_grad():
        expected = by_name(network(torch.from_numpy(example)))
    for name, array in by_name(served.predict(example)).items():
        np.testing.assert_array_equal(array, expected[name].numpy())


@pytest.mark.slow
def test_mlflow_s_server_answers_a_request(tmp_path):
    network = SurfaceUNet(targets=TARGETS, f_maps=[4, 8])
    write_network(network, (1, 8, 8, 8), tmp_path / "model")
    with closing(socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["models", "serve", "--model-uri", str(tmp_path / "model"), "--env-manager", "local", "--port", str(port)]
    images = np.ones((1, 1, 8, 8, 8), dtype=np.float32)
    body = json.dumps({"inputs": images.tolist()}).encode()
    request = Request(f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": "application/json"})
    with open(tmp_path / "log", "w") as log:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # MLflow calls uvicorn by its name
        command = [sys.executable, "-m", "mlflow", *words]
        server = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "PATH": path})
        try:
            answer = answered(server, request)
        finally:
            server.terminate()
            server.wait()
    with torch.no_grad():
        expected = network(torch.from_numpy(images))
    assert answer["predictions"].keys() == expected.keys()
    for name, numbers in answer["predictions"].items():
        np.testing.assert_allclose(np.array(numbers, dtype=np.float32), expected[name].numpy(), atol=1e-5)


def answered(server, request):
    """The first answer of a server that is starting."""
    while server.poll() is None:
        try:
            with urlopen(request) as answer:
                return json.load(answer)
        except URLError as error:
            if not isinstance(error.reason, ConnectionRefusedError):
                raise
            time.sleep(0.2)
    pytest.fail("the server has ended")
