"""Each bundle on a GPU: `make test-gpu`. At the end one table of all figures is printed and written to a file.

``MONAI_EXT_GPU_TESTS_DEVICE=cpu make test-gpu`` rehearses the tests themselves on a machine without a GPU: it leaves
out fp16, compilation and the count of synchronisations, which mean nothing there, and has a network run out of memory
by itself. Such a run proves nothing about GPUs. ``MONAI_EXT_GPU_TESTS_DEVICE=cuda:1`` takes another GPU than the first.
"""

import collections
import json
import math
import shutil
import signal
import statistics
import sys

import numpy as np
import pytest
import torch
from measuring import Measured, Synchronisations, limited_memory
from monai.bundle import ConfigWorkflow
from monai.bundle.scripts import ckpt_export
from trainings import wait_for
from workspaces import ALL, Workspace, numbers

from monai_ext.error_report import describe

pytestmark = pytest.mark.gpu

# Settings of a training, and how far its loss may be from that in float32, relatively.
TRAININGS = {
    "fp32": ({}, 0.02),
    "tf32": ({"tf32": True}, 0.05),
    "bf16": ({"amp": True, "precision": "bf16"}, 0.3),
    "fp16": ({"amp": True, "precision": "fp16"}, 0.3),
    "channels-last bf16": ({"amp": True, "precision": "bf16", "channels_last": True}, 0.3),
}
# Engine and precision of an inference, and how far its probabilities may be from the CPU's in float32.
INFERENCES = {
    "eager fp32": ("eager", "fp32", 1e-3),
    "compiled fp32": ("compiled", "fp32", 1e-3),
    "eager bf16": ("eager", "bf16", 0.05),
    "eager fp16": ("eager", "fp16", 0.05),
}
# On a CPU a resumed run is the same bit for bit; on a GPU two undisturbed ones differ, too (docs/recovery.md).
RESUMED = {"cpu": 0.0, "cuda": 0.01}
# Waits for the GPU in a training iteration: a finite flag, the scaler's, and what is left for logs.
SYNCHRONISATIONS = 4.0


@pytest.fixture(scope="module", params=ALL)
def workspace(request, device, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    yield Workspace(request.param, device, folder)
    shutil.rmtree(folder, ignore_errors=True)


def _kept(input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
    # as TorchScript compiles it, too
    return input


@pytest.fixture(scope="module", autouse=True)
def no_dropout():
    """A GPU draws other masks for another number format: two right trainings would differ."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "dropout", _kept)
        yield


def float32(workspace):
    return {"amp": False, **({"tf32": False} if workspace.has("tf32") else {})}


@pytest.fixture(scope="module")
def trained(workspace):
    """A run in plain float32, which the others are compared with."""
    return workspace.train(workspace.folder / "trained", **float32(workspace))


def content(folder):
    return json.loads((folder / "metrics" / "metrics.json").read_text())


def losses(folder):
    found = [entry["train_loss"] for entry in content(folder)["history"]]
    return [math.nan if loss is None else loss for loss in found]


def apart(found, expected):
    """Largest relative difference."""
    return float(np.max(np.abs(np.subtract(found, expected)) / np.abs(expected)))


def waiting(folder):
    """Share of the time that the trainer waited for data, without the first epoch, which starts the readers."""
    entries = content(folder)["history"][1:]
    return sum(entry["data_seconds"] for entry in entries) / sum(entry["seconds"] for entry in entries)


@pytest.mark.parametrize("precision", TRAININGS)
def test_a_training_learns_what_it_learns_in_float32(workspace, trained, device, figures, tmp_path, precision):
    changed, tolerance = TRAININGS[precision]
    told = figures(f"training {precision}")
    if precision == "fp16" and device.type == "cpu":
        pytest.skip("fp16 is for GPUs")
    missing = [name for name in changed if not workspace.has(name)]
    if missing:
        pytest.skip(f"the bundle has no setting {missing[0]}")
    workers = {"num_workers": 2} if device.type == "cuda" else {}
    try:
        with Measured(device) as measured:
            folder = workspace.train(tmp_path, **{**float32(workspace), **workers, **changed})
    except Exception as error:
        if device.type == "cpu" and "wrong weight gradient" in describe(error)[0]:
            pytest.skip("torch's bf16 kernels are wrong on this CPU (benchmarks/README.md)")
        raise
    difference = apart(losses(folder), losses(trained))
    told.update(measured.figures, difference=difference, waiting=waiting(folder))
    before, after = (
        torch.load(folder / "checkpoints" / f"{name}.pt", weights_only=True)["model"]
        for name in ("last_previous", "last")
    )
    shutil.rmtree(folder)
    assert any(not torch.equal(before[key], after[key]) for key in before), "the last epoch didn't change the network"
    assert math.isfinite(difference)
    assert difference <= tolerance


def test_a_killed_training_goes_on_as_the_undisturbed_one(workspace, device, figures):
    told = figures("killed and resumed")
    training = workspace.launched()
    options = [word for name, value in float32(workspace).items() for word in (f"--{name}", str(value))]
    with Measured(device) as measured:
        done = training.run("undisturbed", *options)
    assert done.returncode == 0, done.stderr
    epochs = training.settings["max_epochs"]
    process = training.start("killed", "--checkpoint_every", "1", *options)
    wait_for(process, f"epoch 1/{epochs}")
    assert process.poll() is None, "the training was over before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = training.run("killed", "--checkpoint_every", "1", "--resume", "auto", *options)
    assert again.returncode == 0, again.stderr
    difference = apart(*(losses(training.only_run(name)) for name in ("killed", "undisturbed")))
    told.update(seconds=measured.seconds, difference=difference)
    assert len(losses(training.only_run("killed"))) == epochs
    assert difference <= RESUMED[device.type]


def test_an_evaluation_repeats_the_validation(workspace, trained, device, figures):
    told = figures("evaluation")
    section = {"section": "val"} if workspace.has("section", "evaluate.json") else {}
    with Measured(device) as measured:
        folder = workspace.train(
            trained.parents[1],
            ("evaluate.json",),
            checkpoint=str(workspace.best(trained)),
            **section,
            **float32(workspace),
        )
    found, expected = (content(each)["metrics"] for each in (folder, trained))
    # its loss has the class weights of the later epochs in `brats_resnet50`
    names = {name for name in found.keys() & expected.keys() if found[name] is not None and "loss" not in name}
    difference = max(abs(found[name] - expected[name]) for name in names)
    told.update(measured.figures, difference=difference)
    assert difference <= 1e-3


@pytest.fixture(scope="module")
def answer(workspace, trained):
    """Of the CPU, in float32."""
    return workspace.infer(workspace.best(trained), workspace.folder / "answer", torch.device("cpu"))


@pytest.mark.parametrize("engine", INFERENCES)
def test_an_inference_gives_the_answer_of_the_cpu(workspace, trained, answer, device, figures, tmp_path, engine):
    kind, precision, tolerance = INFERENCES[engine]
    told = figures(f"inference {engine}")
    if device.type == "cpu" and (kind == "compiled" or precision == "fp16"):
        pytest.skip("compilation takes minutes on a CPU, and fp16 is for GPUs")
    with Measured(device) as measured:
        found = workspace.infer(workspace.best(trained), tmp_path, device, engine=kind, precision=precision)
    difference = float(np.abs(found - answer).max())
    told.update(measured.figures, difference=difference)
    assert difference <= tolerance


def test_exports_run_on_the_other_device(workspace, trained, device, figures, tmp_path):
    told = figures("exports on the other device")
    network, words = workspace.network(workspace.best(trained))
    image = torch.randn(workspace.bundle.image, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = network(image)
    metadata = str(trained / "config" / "metadata.json")
    ckpt_export(filepath=str(tmp_path / "from_cpu.ts"), meta_file=metadata, **words)
    torch.jit.save(torch.jit.script(network.to(device)), str(tmp_path / "from_device.ts"))
    cpu = torch.device("cpu")
    difference = 0.0
    for name, place in (("from_cpu", device), ("from_device", cpu)):
        exported = torch.jit.load(str(tmp_path / f"{name}.ts"), map_location=place).eval()
        with torch.inference_mode():
            found = exported(image.to(place))
        assert _tensors(found)[0].device.type == place.type
        pairs = zip(_tensors(found), _tensors(expected), strict=True)
        difference = max(difference, *(float((a.cpu() - b).abs().max() / b.abs().max()) for a, b in pairs))
    told.update(difference=difference)
    assert difference <= 1e-2  # TF32 in convolutions, which is PyTorch's default


def _tensors(output):
    return list(output.values()) if isinstance(output, dict) else [output]


def test_a_batch_that_does_not_fit_is_done_in_halves(workspace, device, figures, tmp_path):
    told = figures("out of memory")
    large = workspace.bundle.large if device.type == "cuda" else {}
    settings = {**float32(workspace), **large, "max_epochs": 1, "max_train_batches": 1, "num_workers": 0}
    batch = {**workspace.bundle.small, **settings}["batch_size"]
    # On a GPU the largest limit that is too small has to be found: cuDNN takes what memory it can get, and needs less.
    limits = [0.0]
    if device.type == "cuda":
        with Measured(device) as measured:
            shutil.rmtree(workspace.train(tmp_path / "whole", **settings))
        limits = [share * measured.peak_mib for share in (0.85, 0.7, 0.55, 0.4)]
        told["note"] = f"{batch} samples at once took {measured.peak_mib:.0f} MiB"
    for limit in limits:
        with limited_memory(device, limit, batch), Measured(device) as measured:
            folder = workspace.train(tmp_path / f"{limit:.0f}", **settings)
        told.update(measured.figures)
        log = "".join(path.read_text() for path in (folder / "logs").glob("*.log"))
        shutil.rmtree(folder)
        if "retried in halves" in log:
            break
    assert "retried in halves" in log


def test_one_process_of_torchrun_trains(workspace, device, figures):
    told = figures("torchrun, one process")
    training = workspace.launched()
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=1")
    with Measured(device) as measured:
        done = training.run("launched", launcher=launcher, overlays=("multi_gpu_train.json",))
    assert done.returncode == 0, done.stderr
    found = losses(training.only_run("launched"))
    told.update(seconds=measured.seconds, note="nccl" if device.type == "cuda" else "gloo")
    assert len(found) == training.settings["max_epochs"]
    assert all(map(math.isfinite, found))


def test_an_iteration_hardly_waits_for_the_gpu(workspace, device, figures, tmp_path):
    told = figures("synchronisations")
    settings = workspace.settings(output_dir=str(tmp_path), max_epochs=8)
    workflow = ConfigWorkflow(
        config_file=str(workspace.configs / "train.json"), workflow_type="train", logging_file=False, **settings
    )
    workflow.initialize()
    counted = Synchronisations(device)
    trainer = workflow.parser.get_parsed_content("train#trainer")
    counted.attach(trainer)
    workflow.run()
    workflow.finalize()
    shutil.rmtree(tmp_path / "fold_1")
    assert len(counted.found) > 4
    if device.type == "cpu":
        pytest.skip("a CPU has nothing to wait for")
    # not the mean: a first step copies what it could have to undo
    each = statistics.median(len(sentences) for sentences in counted.found)
    places = collections.Counter(sentence for sentences in counted.found for sentence in set(sentences)).most_common(4)
    told["note"] = f"{each:g} an iteration; most often at {', '.join(place for place, _ in places)}"
    assert each <= SYNCHRONISATIONS


@pytest.mark.parametrize("workspace", ["surface_unet"], indirect=True)
def test_a_zarr_volume_predicted_twice_has_the_same_bytes(workspace, trained, device, figures, tmp_path):
    told, written = figures("Zarr engine twice"), []
    with Measured(device) as measured:
        for name in ("first", "second"):
            workspace.infer(workspace.best(trained), tmp_path / name, device)
            files = (path for path in (tmp_path / name).rglob("*") if path.is_file() and "ledger" not in path.parts)
            written.append({str(path.relative_to(tmp_path / name)): path.read_bytes() for path in files})
    told.update(measured.figures)
    assert numbers(tmp_path / "first").any()
    assert written[0] == written[1]
