"""A convolution whose half-precision gradient is wrong on this CPU is refused before a weight is changed by it.

The wrong kernel is put in by hand, because not every CPU has it.
"""

import re

import pytest
import torch
from monai.engines import SupervisedTrainer
from torch import nn

from monai_ext.engines import Autocast, TrainingStep, check_training_step, convolution_check
from monai_ext.errors import ConfigError

SHAPE = (2, 1, 4, 8, 8)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.MaxPool3d(2), nn.Conv3d(4, 4, 3, padding=1))


@pytest.fixture
def tried(monkeypatch):
    """The shapes that were tried; the gradient is wrong where the feature map is 2 voxels deep."""
    shapes = []

    def error(module, use, dtype):
        shapes.append(use.shape)
        return float("nan") if use.shape[2] == 2 else 0.003

    monkeypatch.setattr(convolution_check, "_gradient_error", error)
    return shapes


def train(net, precision, shape=SHAPE):
    trainer = SupervisedTrainer(
        device="cpu",
        max_epochs=2,
        train_data_loader=[{"image": torch.rand(shape), "label": torch.rand(1)}] * 2,
        network=net,
        optimizer=torch.optim.SGD(net.parameters(), lr=0.1),
        loss_function=lambda pred, label: pred.float().square().mean(),
        iteration_update=TrainingStep(precision=precision),
        decollate=False,
    )
    trainer.run()


def test_a_training_is_refused_before_its_first_step(tried):
    net, before = network(), network()
    with pytest.raises(ConfigError, match=r"wrong weight gradient in bfloat16 for Conv3d\(4, 4.* of \[2, 4, 4\]"):
        train(net, "bf16")
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), before.parameters(), strict=True))


def test_a_training_is_refused_before_anything_is_written(tried):
    with pytest.raises(ConfigError, match=re.escape("train in float32 (--amp False), on a GPU, or on inputs of")):
        check_training_step(network(), SHAPE, "cpu", Autocast(precision="bf16"))


def test_each_shape_is_tried_once_and_float32_never(tried):
    train(network(), "bf16", (2, 1, 8, 8, 8))
    assert tried == [(1, 1, 8, 8, 8), (1, 4, 4, 4, 4)]
    train(network(), "fp32")
    check_training_step(network(), SHAPE, "cpu")
    assert len(tried) == 2


def test_right_gradients_pass():
    train(network(), "bf16", (2, 1, 16, 8, 8))


def test_frozen_convolutions_have_no_gradient(tried):
    net = network()
    net[2].requires_grad_(False)
    train(net, "bf16")


def test_a_training_draws_the_same_random_numbers():
    use = convolution_check._Use("", (1, 4, 6, 6, 6), *(torch.contiguous_format,) * 2)
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    for module in (nn.Conv3d(4, 2, 3, padding="same"), nn.ConvTranspose3d(4, 2, 2, stride=2)):
        torch.manual_seed(3)
        assert convolution_check._gradient_error(module, use, torch.bfloat16) < 0.05
        assert torch.equal(torch.rand(3), expected)


def test_a_wrong_kernel_is_found_by_its_error(monkeypatch):
    class Wrong(nn.Conv3d):
        def forward(self, image):
            return super().forward(image) if image.dtype == torch.float32 else super().forward(image * 2)

    monkeypatch.setattr(convolution_check, "_KINDS", (Wrong,))
    use = convolution_check._Use("", (1, 2, 5, 5, 5), *(torch.contiguous_format,) * 2)
    error = convolution_check._gradient_error(Wrong(2, 2, 3), use, torch.bfloat16)
    assert error == pytest.approx(1, abs=0.05)
