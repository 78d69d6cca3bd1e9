"""Conversion to OpenVINO, and its folder beside the checkpoint."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from monai_ext.inferers import FoldEnsemble, prepare_for_inference
from monai_ext.inferers.accuracy import accuracy_fault

openvino = pytest.importorskip("openvino")


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
