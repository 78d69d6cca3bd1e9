"""A training whose step can't work, or can't fit the memory, is refused with the settings that help."""

import copy
import logging

import pytest
import torch
from torch import nn

from monai_ext.engines import Autocast, check_training_step, step_check
from monai_ext.errors import ConfigError
from monai_ext.memory import FullMemoryError, free_memory
from monai_ext.networks import MedicalNetResNet50, SurfaceUNet
from monai_ext.networks.footprint import training_footprint

NETWORK = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU())
SHAPE = [8, 1, 16, 16]
WEIGHTS, ACTIVATIONS = training_footprint(NETWORK, SHAPE)


@pytest.fixture(autouse=True)
def given_back(monkeypatch):
    """What the check says of memory that is freed."""
    calls = []
    monkeypatch.setattr(step_check, "keep_freed_memory", lambda keep: calls.append(keep))
    return calls


@pytest.fixture
def free(monkeypatch):
    def set_free(amount):
        monkeypatch.setattr(step_check, "free_memory", lambda device: int(amount))

    return set_free


def test_a_batch_that_fits_passes(free):
    free(3 * WEIGHTS + ACTIVATIONS)
    check_training_step(NETWORK, SHAPE, "cpu")


@pytest.mark.parametrize(
    ("recomputes", "times", "kept"), [(None, 1.8, True), (None, 1.6, False), ("checkpointing", 2.9, False)]
)
def test_freed_memory_is_given_back_where_a_step_may_need_all(free, given_back, caplog, recomputes, times, kept):
    network = copy.deepcopy(NETWORK)
    if recomputes:
        setattr(network[0], recomputes, True)
    free(times * (3 * WEIGHTS + ACTIVATIONS))
    with caplog.at_level(logging.INFO):
        check_training_step(network, SHAPE, "cpu")
    assert given_back == ([] if kept else [False])
    assert ("given back at once" in caplog.text) == (not kept)


def test_a_batch_that_does_not_fit_is_refused_with_one_that_does(free):
    free(3 * WEIGHTS + ACTIVATIONS / 2)
    with pytest.raises(FullMemoryError, match=r"of 8 samples needs at least .* --batch_size 4 fits .*accumulate 2"):
        check_training_step(NETWORK, SHAPE, "cpu")


def test_a_sample_that_does_not_fit_is_refused_on_any_device(free):
    free(3 * WEIGHTS + ACTIVATIONS / 9)
    for device in ("cpu", "cuda"):
        with pytest.raises(FullMemoryError, match="one sample doesn't fit either; train on smaller inputs"):
            check_training_step(NETWORK, SHAPE, device)


def test_mixed_precision_keeps_half(free):
    free(3 * WEIGHTS + ACTIVATIONS / 2)
    check_training_step(NETWORK, SHAPE, "cpu", Autocast(amp=True, precision="bf16"))


def test_where_batches_are_retried_in_halves_it_is_a_warning(free, caplog):
    free(3 * WEIGHTS + ACTIVATIONS / 2)
    with caplog.at_level(logging.WARNING):
        check_training_step(NETWORK, SHAPE, "cuda")
    assert "batches are retried in halves; --batch_size 4 fits" in caplog.text


@pytest.mark.parametrize(
    ("network", "shape", "cause"),
    [
        (MedicalNetResNet50(), [1, 1, 32, 32, 32], "Expected more than 1 value per channel"),
        (SurfaceUNet(f_maps=(4, 8, 16, 32, 64, 64)), [2, 1, 16, 64, 64], "take a larger patch_size or fewer f_maps"),
    ],
    ids=["one-value-a-channel", "too-deep"],
)
def test_a_batch_that_the_network_can_not_take_is_an_error_of_the_settings(network, shape, cause):
    with pytest.raises(ConfigError, match=r"can't be trained on a batch of shape") as caught:
        check_training_step(network, shape, "cpu")
    assert cause in str(caught.value)
    assert "change --batch_size or the settings of sizes" in str(caught.value)


def test_the_last_batch_is_tried_too():
    check_training_step(MedicalNetResNet50(), [4, 1, 32, 32, 32], "cpu", samples=8)
    with pytest.raises(ConfigError, match=r"a batch of shape \[1, 1, 32, 32, 32\]: Expected more than 1 value"):
        check_training_step(MedicalNetResNet50(), [4, 1, 32, 32, 32], "cpu", samples=9)
    check_training_step(MedicalNetResNet50(), [4, 1, 32, 32, 32], "cpu", samples=9, max_batches=2)


def test_fewer_samples_than_a_batch_are_one_batch(free):
    free(3 * WEIGHTS + ACTIVATIONS / 2)
    check_training_step(NETWORK, SHAPE, "cpu", samples=4)


def test_a_network_that_needs_values_is_trained_unseen(free):
    class Opaque(nn.Module):
        def forward(self, image):
            return image if image.sum().item() > 0 else -image

    free(0)
    check_training_step(Opaque(), SHAPE, "cpu")


def test_the_host_s_free_memory_is_within_its_control_group(monkeypatch, tmp_path):
    unlimited = free_memory(torch.device("cpu"))
    for name, text in {"max": "1000", "current": "900", "stat": "anon 1\ninactive_file 300\n"}.items():
        (tmp_path / name).write_text(text)
    limits = [tuple(str(tmp_path / name) for name in ("max", "current", "stat"))]
    monkeypatch.setattr("monai_ext.memory._LIMITS", limits)
    assert free_memory(torch.device("cpu")) == 1000 - (900 - 300) < unlimited
