"""Conversion to OpenVINO, and its folder beside the checkpoint."""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import nn

from monai_ext.inferers import FoldEnsemble, prepare_for_inference
from monai_ext.inferers.accuracy import accuracy_fault
from monai_ext.inferers.openvino_means import rewrite_means
from monai_ext.inferers.openvino_network import OpenVinoNetwork, import_openvino
from monai_ext.networks import SurfaceUNet

if importlib.util.find_spec("openvino") is None:
    pytest.skip("could not import 'openvino'", allow_module_level=True)
openvino = import_openvino()


class Two(nn.Module):
    """Two outputs, not in the alphabet's order."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU())
        self.sheet, self.normals = nn.Conv3d(4, 1, 1), nn.Conv3d(4, 3, 1)

    def forward(self, x):
        features = self.conv(x)
        return {"sheet": self.sheet(features), "normals": self.normals(features)}


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(2, 1, 6, 5, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return Two()


@pytest.fixture
def checkpoint(tmp_path, network):
    path = tmp_path / "best.pt"
    torch.save(network.state_dict(), path)
    return path


def converted(network, x, *checkpoints, precision="fp32"):
    """Without the comparison on the first image."""
    with torch.no_grad():
        return prepare_for_inference(network, "cpu", "openvino", precision, x, checkpoints).fast


def agrees(fast, network, x):
    with torch.no_grad():
        outputs, expected = fast(x), network(x)
    if isinstance(expected, dict):
        assert list(outputs) == list(expected)
    return accuracy_fault(outputs, expected, exact=True) is None


@pytest.fixture
def conversions(monkeypatch):
    """Counts conversions."""
    made = []
    convert = openvino.convert_model
    monkeypatch.setattr(openvino, "convert_model", lambda *args, **options: made.append(1) or convert(*args, **options))
    return made


def test_outputs_by_name_equal_eager_for_other_sizes_too(network, x) -> None:
    fast = converted(network, x)
    assert agrees(fast, network, x)
    assert agrees(fast, network, x[:1, :, :4])


def test_bf16_is_near_eager(network, x) -> None:
    with torch.no_grad():
        outputs, expected = converted(network, x, precision="bf16")(x), network(x)
    for name, output in outputs.items():
        torch.testing.assert_close(output, expected[name], rtol=0, atol=0.05 * float(expected[name].abs().max()))


@pytest.mark.parametrize("shape", [(1, 6, 20, 24, 28), (2, 6, 30, 40)])
@pytest.mark.parametrize("norm", [nn.GroupNorm(3, 6), nn.GroupNorm(1, 6, affine=False), nn.GroupNorm(6, 6, eps=1)])
def test_group_norms_equal_eager(norm, shape) -> None:
    torch.manual_seed(0)
    if norm.affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    conv = nn.Conv3d if len(shape) == 5 else nn.Conv2d
    network = nn.Sequential(conv(6, 6, 1), norm, conv(6, 2, 1)).eval()
    fast = converted(network, torch.randn(shape))
    for image in (torch.randn(shape), 5 + torch.randn(shape)[:1, :, :9]):
        assert agrees(fast, network, image)


def test_no_group_norm_is_left_to_be_reordered() -> None:
    with torch.no_grad():
        model = openvino.convert_model(nn.GroupNorm(3, 6), example_input=torch.ones(1, 6, 4, 4, 4))
    assert "GroupNormalization" in {node.get_type_name() for node in model.get_ops()}
    rewrite_means(model)
    assert not {"GroupNormalization", "MVN"} & {node.get_type_name() for node in model.get_ops()}


@pytest.mark.parametrize("keepdim", [True, False])
def test_means_over_many_voxels_are_exact(keepdim) -> None:
    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv3d(1, 8, 3)

        def forward(self, x):
            mean = torch.relu(self.conv(x)).mean(dim=[2, 3, 4], keepdim=keepdim)
            return mean.flatten(1)

    torch.manual_seed(0)
    network = Gate().eval()
    image = torch.randn(1, 1, 64, 128, 128)
    fast = converted(network, image[..., :8, :8])
    with torch.no_grad():
        torch.testing.assert_close(fast(image), network(image), rtol=1e-5, atol=0)


def test_networks_that_compute_differently_for_training_are_converted() -> None:
    """Tracing must see what inference does: `SurfaceUNet` multiplies in place where no gradient is wanted."""
    torch.manual_seed(0)
    network = SurfaceUNet(f_maps=(8, 16)).eval()
    image = torch.randn(1, 1, 8, 8, 8)
    assert agrees(OpenVinoNetwork(network, "fp32", image), network, image)


def test_folds_are_converted_together(x) -> None:
    folds = FoldEnsemble(nn.Sequential(nn.Conv3d(1, 3, 3), nn.AdaptiveAvgPool3d(1), nn.Flatten()) for _ in range(2))
    assert agrees(converted(folds.eval(), x), folds, x)


def test_threads_may_call_at_the_same_time(network, x) -> None:
    fast = converted(network, x)
    images = [x + shift for shift in range(8)]
    with ThreadPoolExecutor(4) as threads, torch.no_grad():
        outputs = list(threads.map(lambda image: torch.no_grad()(fast)(image)["normals"], images))
    for output, image in zip(outputs, images, strict=True):
        torch.testing.assert_close(output, network(image)["normals"].detach(), rtol=1e-4, atol=1e-5)


def test_it_has_as_many_threads_as_torch(network, x) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert converted(network, x).network.compiled.get_property("INFERENCE_NUM_THREADS") == 1
    finally:
        torch.set_num_threads(threads)


def test_conversions_are_reported_to_nobody() -> None:
    assert openvino.tools.ovc.telemetry_utils.tm.__name__ == "openvino.tools.ovc.telemetry_stub"


class SignalStack(ctypes.Structure):
    _fields_ = [("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]


def signal_stack():
    """Address of this thread's stack for signal handlers, and whether there is memory."""
    stack = SignalStack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack))
    ranges = (line.split()[0].split("-") for line in Path("/proc/self/maps").read_text().splitlines())
    return stack.start, any(int(first, 16) <= (stack.start or 0) < int(last, 16) for first, last in ranges)


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the stack of signal handlers")
@pytest.mark.parametrize("where", ["in the order in which they came", "in another thread"])
def test_signals_find_their_stack_when_networks_are_gone(x, where) -> None:
    networks = [OpenVinoNetwork(nn.ReLU(), "fp32", x) for _ in range(2)]
    stack, _ = signal_stack()
    if where == "in another thread":
        with ThreadPoolExecutor(1) as threads:
            threads.submit(networks.clear).result()
    while networks:
        del networks[0]
        gc.collect()
    assert signal_stack() == (stack, True)


def test_the_conversion_is_kept_until_the_checkpoint_changes(network, x, checkpoint, conversions) -> None:
    converted(network, x, checkpoint)
    assert agrees(converted(network, x, checkpoint), network, x)
    assert len(conversions) == 1
    with torch.no_grad():
        network.sheet.bias.add_(1)
    torch.save(network.state_dict(), checkpoint)
    assert agrees(converted(network, x, checkpoint), network, x)
    assert len(conversions) == 2
    assert {path.name for path in (checkpoint.parent / "openvino").glob("*/*")} == {"model.xml", "model.bin"}


def test_a_folder_that_cannot_be_written_is_no_failure(network, x, checkpoint, conversions) -> None:
    (checkpoint.parent / "openvino").write_text("a file where the folder would be")
    for _ in range(2):
        assert agrees(converted(network, x, checkpoint), network, x)
    assert len(conversions) == 2


def test_a_write_that_fails_leaves_nothing(network, x, checkpoint, monkeypatch) -> None:
    def fail(model, path, **options):
        path.write_text("half")
        raise RuntimeError("no space left on device")

    monkeypatch.setattr(openvino, "save_model", fail)
    assert agrees(converted(network, x, checkpoint), network, x)
    assert not list((checkpoint.parent / "openvino").iterdir())


def test_a_damaged_conversion_is_made_again(network, x, checkpoint, caplog) -> None:
    converted(network, x, checkpoint)
    for file in (checkpoint.parent / "openvino").glob("*/model.xml"):
        file.write_text("<damaged")
    assert agrees(converted(network, x, checkpoint), network, x)
    assert "can't be read, so the network is converted again" in caplog.text
