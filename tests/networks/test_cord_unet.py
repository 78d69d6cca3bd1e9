from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from network_contract import GOLDEN, NetworkContract, filled, relative_error

from monai_ext.errors import ConfigError, WeightsError
from monai_ext.networks import CordUNet, fine_tuning_stages, initial_network, load_pretrained


@pytest.fixture(scope="module")
def golden() -> dict:
    return json.loads((GOLDEN / "cord_unet.json").read_text())


class TestCordUNet(NetworkContract):
    input_shape = (2, 1, 32, 48)
    output_shapes = ((2, 1, 32, 48),)

    @pytest.fixture(scope="class")
    @classmethod
    def network(cls):
        torch.manual_seed(0)
        return CordUNet(features=4).eval()


class TestVisibleHead(NetworkContract):
    input_shape = (2, 2, 16, 8)
    output_shapes = ((2, 3, 16, 8), (2, 1))

    @pytest.fixture(scope="class")
    @classmethod
    def network(cls):
        torch.manual_seed(0)
        return CordUNet(in_channels=2, out_channels=3, depth=2, features=4, visible_head=True).eval()


@pytest.mark.parametrize("features", [16, 64])
def test_equals_the_reference_in_float64(golden, features) -> None:
    network = filled(CordUNet(features=features).double()).eval()
    x = torch.from_numpy(np.random.RandomState(3).uniform(0, 1, (1, 1, 64, 64)))
    with torch.no_grad():
        logits = network(x)
    with np.load(GOLDEN / "cord_unet.npz") as sampled:
        assert relative_error(logits[:, :, ::2, ::2], torch.from_numpy(sampled[str(features)])) < 1e-6
    assert float(logits.square().sum().sqrt()) == pytest.approx(golden[str(features)]["l2"], rel=1e-6)


@pytest.mark.parametrize(("features", "parameters"), [(16, 1_942_299), (64, 31_036_491)])
def test_has_as_many_parameters_as_the_reference(golden, features, parameters) -> None:
    with torch.device("meta"):
        network = CordUNet(features=features)
    assert sum(p.numel() for p in network.parameters()) == golden[str(features)]["parameters"] == parameters


def test_keys_are_the_reference_s(golden) -> None:
    assert {key: list(value.shape) for key, value in CordUNet().state_dict().items()} == golden["16"]["keys"]


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(1)
    network = CordUNet(features=4)
    path = tmp_path / "reference.pt"
    torch.save({f"module.{key}": value for key, value in network.state_dict().items()}, path)
    return path, network.state_dict()


def test_a_reference_file_loads_completely(checkpoint) -> None:
    path, state = checkpoint
    network = CordUNet(features=4)
    report = load_pretrained(network, path)
    assert report.missing == report.unexpected == report.ignored == []
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


def test_only_heads_start_fresh_from_a_reference_file(checkpoint) -> None:
    path, _ = checkpoint
    report = load_pretrained(CordUNet(features=4, out_channels=2, visible_head=True), path)
    heads = ("output_layer", "visible_head")
    assert sorted(report.missing) == [f"{head}.{kind}" for head in heads for kind in ("bias", "weight")]
    with pytest.raises(WeightsError, match="does not fit CordUNet"):
        load_pretrained(CordUNet(features=8), path)


def test_another_size_than_a_multiple_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"multiples of 16, got \[32, 40\]; pad or resize"):
        CordUNet(features=2)(torch.zeros(1, 1, 32, 40))


@pytest.mark.parametrize("name", ["in_channels", "out_channels", "depth", "features"])
@pytest.mark.parametrize("value", [0, 1.5, True], ids=repr)
def test_bad_arguments(name, value) -> None:
    with pytest.raises(ConfigError, match=f"CordUNet: {name} must be an integer of at least 1, got {value!r}"):
        CordUNet(**{name: value})


@pytest.mark.parametrize("visible_head", [False, True], ids=["mask", "mask and answer"])
def test_stages_are_all_parts_but_the_heads_from_end_to_input(visible_head) -> None:
    network = CordUNet(depth=2, features=2, visible_head=visible_head)
    stages = fine_tuning_stages(network)
    assert stages == ["ups", "bottleneck", "downs", "input_layer"]
    inside = tuple(f"{stage}." for stage in stages)
    assert all(name.startswith(inside) != name.startswith(network.head_prefixes) for name in network.state_dict())


def test_a_training_starts_from_another_segmentation_s_weights(tmp_path) -> None:
    pretrained = CordUNet(depth=2, features=2)
    torch.save({"model": pretrained.state_dict()}, tmp_path / "best.pt")
    network = initial_network(CordUNet(depth=2, features=2), "cpu", tmp_path / "best.pt", channels_last=True)
    assert all(torch.equal(value, pretrained.state_dict()[name]) for name, value in network.state_dict().items())
    # an input channel alone would say nothing of the order
    assert network.bottleneck._conv_1.weight.is_contiguous(memory_format=torch.channels_last)
