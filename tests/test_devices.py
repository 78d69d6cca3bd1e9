"""Every process its own GPU, whoever starts it; GPUs are numbers that torch is made to report."""

import pytest
import torch

from monai_ext import workflow
from monai_ext.devices import local_processes, own_device, user_device
from monai_ext.errors import ConfigError

LAUNCHER = ("LOCAL_RANK", "LOCAL_WORLD_SIZE", "SLURM_LOCALID", "SLURM_STEP_TASKS_PER_NODE")


@pytest.fixture
def machine(monkeypatch):
    """Sets how many GPUs are seen, and what the launcher says."""
    for name in LAUNCHER:
        monkeypatch.delenv(name, raising=False)

    def set_up(gpus, **environment):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

    return set_up


@pytest.mark.parametrize(
    ("gpus", "environment", "expected"),
    [
        pytest.param(0, {}, "cpu", id="no GPU"),
        pytest.param(0, {"LOCAL_RANK": "1"}, "cpu", id="no GPU, torchrun"),
        pytest.param(4, {}, "cuda:0", id="alone"),
        pytest.param(4, {"LOCAL_RANK": "2"}, "cuda:2", id="torchrun"),
        pytest.param(4, {"SLURM_LOCALID": "3"}, "cuda:3", id="srun, all GPUs seen"),
        pytest.param(1, {"SLURM_LOCALID": "3"}, "cuda:0", id="srun, one GPU a task"),
        pytest.param(4, {"SLURM_LOCALID": "6"}, "cuda:2", id="srun, two tasks a GPU"),
        pytest.param(4, {"LOCAL_RANK": "1", "SLURM_LOCALID": "0"}, "cuda:1", id="torchrun within srun"),
    ],
)
def test_the_default_is_the_process_s_own_gpu(machine, gpus, environment, expected):
    machine(gpus, **environment)
    assert own_device() == workflow.default_device() == torch.device(expected)


@pytest.mark.parametrize("device", ["cuda", torch.device("cuda")], ids=["name", "device"])
def test_cuda_is_the_process_s_own_gpu(machine, device):
    machine(4, LOCAL_RANK="2", LOCAL_WORLD_SIZE="4")
    assert own_device(device) == user_device(device) == torch.device("cuda:2")


@pytest.mark.parametrize("device", ["cpu", "cuda:1", "meta"])
def test_other_devices_are_taken_as_they_are(machine, device):
    machine(4, LOCAL_RANK="2")
    assert own_device(device) == torch.device(device)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, 1),
        ({"LOCAL_WORLD_SIZE": "4"}, 4),
        ({"SLURM_STEP_TASKS_PER_NODE": "2"}, 2),
        ({"SLURM_STEP_TASKS_PER_NODE": "1(x16)"}, 1),
        ({"SLURM_STEP_TASKS_PER_NODE": "3(x2),8"}, 8),
        ({"SLURM_NTASKS": "4", "SLURM_TASKS_PER_NODE": "4"}, 1),
    ],
    ids=["alone", "torchrun", "srun", "one a node", "several kinds of node", "the batch script itself"],
)
def test_the_launcher_says_how_many_processes_a_machine_has(environment, expected):
    assert local_processes(environment) == expected


@pytest.mark.parametrize(
    "environment",
    [{"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}, {"SLURM_LOCALID": "0", "SLURM_STEP_TASKS_PER_NODE": "2(x3)"}],
    ids=["torchrun", "srun"],
)
def test_one_gpu_by_number_is_refused_for_several_processes(machine, environment):
    machine(2, **environment)
    with pytest.raises(ConfigError, match=r"--val_device cuda:0: all 2 processes .* give --val_device cuda, and each"):
        user_device("cuda:0", "val_device")
    assert user_device("cpu") == torch.device("cpu")
    assert user_device(torch.device("cuda:0")) == torch.device("cuda:0")  # a default, not the user's number


def test_one_process_may_choose_its_gpu(machine):
    machine(2, LOCAL_RANK="0", LOCAL_WORLD_SIZE="1")
    assert user_device("cuda:1") == torch.device("cuda:1")


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("gpu", "not a device name"),
        ("cuda:99", "not on this machine"),
        ("cuda", "not on this machine"),
        (3.5, "not a device name"),
    ],
)
def test_a_wrong_device_is_told_what_the_machine_has(machine, device, message):
    machine(0)
    with pytest.raises(ConfigError, match=rf"--device {device}: {message}.*cpu"):
        user_device(device)


def test_a_launcher_s_number_must_be_one(machine):
    machine(2, LOCAL_RANK="first")
    with pytest.raises(ConfigError, match="LOCAL_RANK must be a number, got 'first'"):
        own_device("cuda")
