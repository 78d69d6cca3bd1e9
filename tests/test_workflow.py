import json
import os
import re

import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow

from monai_ext import workflow
from monai_ext.errors import ConfigError
from monai_ext.settings import resolved_settings

CONFIG = {
    "bundle_root": {"_target_": "monai_ext.workflow.bundle_root"},
    "lr": 1e-4,
    "loss": "ldam",
    "losses": {"ldam": {"_target_": "torch.nn.L1Loss"}, "focal": {"_target_": "torch.nn.MSELoss"}},
    "chosen": "$@losses[@loss]",
    "train": {
        "optimizer": {"_target_": "torch.optim.Adam", "params": [], "lr": "@lr"},
        "handlers": [{"_target_": "int"}],
    },
    "initialize": [{"_target_": "monai_ext.workflow.start"}],
}


@pytest.fixture
def bundle(tmp_path):
    configs = tmp_path / "my_bundle" / "configs"
    configs.mkdir(parents=True)
    (configs / "train.json").write_text(json.dumps(CONFIG))
    (configs / "metadata.json").write_text("{}")
    return tmp_path / "my_bundle"


@pytest.mark.parametrize("place", [".", "my_bundle", "my_bundle/configs", "elsewhere"])
def test_bundle_root_is_found_from_any_directory(bundle, monkeypatch, place):
    directory = bundle.parent / place
    directory.mkdir(exist_ok=True)
    monkeypatch.chdir(directory)
    config = {
        ".": "my_bundle/configs/train.json",
        "my_bundle": "configs/train.json",
        "my_bundle/configs": "train.json",
    }.get(place, str(bundle / "configs" / "train.json"))
    found = ConfigWorkflow(config_file=config, logging_file=False)
    found.initialize()
    assert found.bundle_root == str(bundle)


def test_bundle_root_outside_a_workflow_is_the_current_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parser = ConfigParser({**CONFIG, "file": "$@bundle_root + '/models/model.pt'"})
    assert parser.get_parsed_content("file") == "./models/model.pt"
    assert workflow.default_dataset_dir(".") == str(tmp_path / "data" / tmp_path.name)


@pytest.mark.parametrize("variable", ["WORLD_SIZE", "SLURM_STEP_NUM_TASKS"])
def test_several_processes_need_the_multi_process_config(monkeypatch, variable):
    monkeypatch.setenv(variable, "2")
    with pytest.raises(ConfigError, match=r"multi_gpu_train\.json"):
        workflow.start(distributed=False)


def test_the_multi_process_config_needs_a_launcher(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ConfigError, match="torchrun"):
        workflow.start(distributed=True)


def test_default_dataset_dir_prefers_the_current_directory(tmp_path, monkeypatch):
    root = tmp_path / "project" / "bundles" / "b"
    monkeypatch.chdir(tmp_path)
    assert workflow.default_dataset_dir(str(root)) == str(tmp_path / "data" / "b")
    (tmp_path / "project" / "data" / "b").mkdir(parents=True)
    assert workflow.default_dataset_dir(str(root)) == str(tmp_path / "project" / "data" / "b")
    (tmp_path / "data" / "b").mkdir(parents=True)
    assert workflow.default_dataset_dir(str(root)) == str(tmp_path / "data" / "b")


def test_tracking_artifact_survives_a_plain_output_dir(bundle, tmp_path):
    train = bundle / "configs" / "train.json"
    train.write_text(json.dumps({**CONFIG, "output_dir": "$'x'", "train": {"handlers": []}}))
    found = ConfigWorkflow(
        config_file=str(train), logging_file=False, tracking="mlflow", output_dir=str(tmp_path / "plain")
    )
    found.initialize()
    saved = found.parser.get_parsed_content("save_execute_config")
    assert (tmp_path / "plain").is_dir()
    assert saved.startswith(str(tmp_path / "plain" / "config_"))
    assert saved.endswith(".json")


@pytest.mark.parametrize(("knob", "expected"), [(True, "1"), (False, None)])
def test_blocking_launches_are_asked_for_by_a_knob(monkeypatch, knob, expected):
    monkeypatch.setenv("CUDA_LAUNCH_BLOCKING", "x")
    monkeypatch.delenv("CUDA_LAUNCH_BLOCKING")
    workflow.default_device(cuda_launch_blocking=knob)
    assert os.environ.get("CUDA_LAUNCH_BLOCKING") == expected


@pytest.fixture
def gpus(monkeypatch):
    """Two GPUs that torch reports; gives the calls that would reach them."""
    calls = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: calls.append(("current", device)))
    monkeypatch.setattr(
        torch.distributed, "init_process_group", lambda *args, **kwargs: calls.append(("group", args, kwargs))
    )
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 0)
    for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE", "RANK", "WORLD_SIZE", "SLURM_STEP_TASKS_PER_NODE"):
        monkeypatch.delenv(name, raising=False)
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32
    yield calls
    cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = before


def second_of_two(monkeypatch):
    for name, value in {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)


SECOND = torch.device("cuda:1")


@pytest.mark.parametrize("device", ["cuda", SECOND], ids=["by name", "the default"])
def test_a_process_makes_its_gpu_the_current_one_and_names_it_to_the_group(gpus, monkeypatch, device):
    second_of_two(monkeypatch)
    workflow.start(device=device, distributed=True)
    assert gpus == [("current", SECOND), ("group", ("nccl",), {"device_id": SECOND})]


def test_processes_on_the_cpu_touch_no_gpu(gpus, monkeypatch):
    second_of_two(monkeypatch)
    workflow.start(device="cpu", distributed=True)
    assert gpus == [("group", ("gloo",), {})]


def test_more_processes_than_gpus_are_refused(gpus, monkeypatch):
    second_of_two(monkeypatch)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ConfigError, match=r"process 2 .* there are 2; start at most --nproc_per_node=2"):
        workflow.start(device="cuda", distributed=True)


DEVICES = {
    **CONFIG,
    "device": {"_target_": "monai_ext.workflow.default_device"},
    "val_device": "@device",
    "tf32": True,
    "initialize": [{"_target_": "monai_ext.workflow.start", "device": "@device", "independent": True, "tf32": "@tf32"}],
}


def started(bundle, **given):
    train = bundle / "configs" / "train.json"
    train.write_text(json.dumps(DEVICES))
    found = ConfigWorkflow(config_file=str(train), logging_file=False, bundle_root=str(bundle), **given)
    found.initialize()
    return found.parser


@pytest.mark.parametrize(
    "given", [{}, {"device": "cuda"}, {"val_device": "cuda"}], ids=["defaults", "device", "val_device"]
)
def test_the_whole_config_and_the_record_see_the_process_s_own_gpu(bundle, gpus, monkeypatch, given):
    second_of_two(monkeypatch)
    parser = started(bundle, **given)
    for name in ("device", "val_device"):
        assert torch.device(parser.get_parsed_content(name)) == SECOND
        assert resolved_settings(parser)[name] == "cuda:1"


@pytest.mark.parametrize("name", ["device", "val_device"])
def test_a_config_s_gpu_by_number_is_refused_for_several_processes(bundle, gpus, monkeypatch, name):
    second_of_two(monkeypatch)
    with pytest.raises(RuntimeError) as caught:  # MONAI's, around ours, which alone is reported
        started(bundle, **{name: "cuda:0"})
    assert f"--{name} cuda:0: all 2 processes" in str(caught.value.__cause__)


def test_fp16_is_refused_for_a_validation_on_the_cpu_before_anything_is_trained(bundle, gpus):
    with pytest.raises(RuntimeError) as caught:
        started(bundle, precision="fp16", val_device="cpu")
    assert "--val_device cpu validates; use --precision auto" in str(caught.value.__cause__)


@pytest.mark.parametrize(
    "given",
    [
        {"precision": "fp16"},
        {"precision": "fp16", "val_device": "cpu", "amp": False},
        {"precision": "auto", "val_device": "cpu"},
    ],
    ids=["on the GPU", "switched off", "auto"],
)
def test_other_precisions_of_a_validation_pass(bundle, gpus, given):
    started(bundle, **given)


@pytest.mark.parametrize("tf32", [True, False])
def test_tf32_is_a_setting_of_gpu_runs(bundle, gpus, tf32):
    parser = started(bundle, tf32=tf32)
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == (tf32, tf32)
    assert resolved_settings(parser)["tf32"] is tf32


def test_a_run_on_the_cpu_leaves_torch_s_precision_alone(gpus):
    torch.backends.cuda.matmul.allow_tf32 = False
    workflow.start(device="cpu")
    assert not torch.backends.cuda.matmul.allow_tf32  # it is also that of products on the CPU
    assert gpus == []


class Parsed:
    """What `monai.bundle.ConfigParser` has, as far as a component sees it."""

    def __init__(self, handlers):
        self.config, self.ref_resolver = {"train": {"handlers": handlers}}, None

    def get(self):
        return self.config

    def run_name(self):
        return workflow.default_run_name("my_bundle", fold=2)


def test_a_run_is_named_by_bundle_and_fold_and_for_monai_s_own_tracking_like_no_other():
    assert Parsed([]).run_name() == "my_bundle · fold 2"
    name = Parsed([{"_target_": "MLFlowHandler"}]).run_name()
    assert re.fullmatch(rf"my_bundle · fold 2 \d{{4}}-\d\d-\d\d [\d:]{{8}} {os.getpid()}", name)
