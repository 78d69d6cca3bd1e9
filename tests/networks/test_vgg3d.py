from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from network_contract import GOLDEN, NetworkContract, filled, relative_error

from monai_ext.errors import ConfigError, WeightsError
from monai_ext.networks import VGG3D, VGG3DAdapter, load_pretrained

SMALL = {"input_size": (16, 16, 16), "fmaps": 2}


@pytest.fixture(scope="module")
def golden() -> dict:
    return json.loads((GOLDEN / "vgg3d.json").read_text())


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    return torch.from_numpy(np.random.RandomState(1).uniform(0, 1, (1, 1, 80, 80, 80)))


class TestVGG3D(NetworkContract):
    input_shape = (2, 1, 24, 16, 18)
    output_shapes = ((2, 7),)

    @pytest.fixture(scope="class")
    @classmethod
    def network(cls):
        torch.manual_seed(0)
        return VGG3D(input_size=(24, 16, 18), fmaps=4).eval()


class TestAdapter(NetworkContract):
    input_shape = (2, 1, 20, 20, 20)
    output_shapes = ((2, 5),)

    @pytest.fixture(scope="class")
    @classmethod
    def network(cls):
        torch.manual_seed(0)
        return VGG3DAdapter(VGG3D(**SMALL), (20, 20, 20), 5, classifier_size=32).eval()


@pytest.fixture(scope="module")
def features(image) -> torch.Tensor:
    """What both networks compute at 80³ in front of their classifiers; it takes seconds, so it is done once."""
    with torch.no_grad():
        return filled(VGG3D(input_size=(16, 16, 16)).double()).eval().features(image)


@pytest.mark.slow
def test_equals_the_reference_in_float64(golden, features) -> None:
    network = filled(VGG3D().double()).eval()
    with torch.no_grad():
        logits = network.classifier(torch.flatten(features, 1))
    assert relative_error(features.mean((0, 2, 3, 4)), torch.tensor(golden["feature_mean"]).double()) < 1e-6
    assert relative_error(logits[0], torch.tensor(golden["logits"]).double()) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("size", [80, 60])
def test_the_adapter_equals_the_reference_in_float64(golden, image, features, size) -> None:
    reference = golden["adapter"][str(size)]
    base = VGG3D(input_size=(16, 16, 16))
    network = filled(VGG3DAdapter(base, (size,) * 3, 18).double()).eval()
    with torch.no_grad():
        if size == 60:
            logits = network(image[..., 10:70, 10:70, 10:70])
        else:
            logits = network.classifier(torch.flatten(features, 1))
            assert list(features.shape) == reference["feature_shape"]
    assert relative_error(logits[0], torch.tensor(reference["logits"]).double()) < 1e-6
    assert base.feature_size((size,) * 3) == reference["feature_size"]
    assert count(network.classifier) == reference["classifier_params"]


def count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_parameters_and_keys_are_the_reference_s(golden) -> None:
    with torch.device("meta"):
        network = VGG3D()
        assert {key: list(value.shape) for key, value in network.state_dict().items()} == golden["keys"]
        assert count(network) == golden["parameters"]["hemibrain"] == 117_127_247
        assert count(network.features) == golden["parameters"]["features"]
        two = VGG3D(n_convolutions=(2, 2, 2, 2))
        assert count(two) == golden["parameters"]["two_convolutions_a_block"]
        defaults = VGG3D(fmaps=32, n_convolutions=(2, 2, 2, 2), num_classes=6)
        assert count(defaults) == golden["parameters"]["funlib_defaults"]


def test_stages_are_the_blocks_from_the_end() -> None:
    stages = VGG3D(**SMALL).stages
    assert [(stage[0], stage[-1]) for stage in stages] == [
        ("features.27", "features.33"),
        ("features.20", "features.26"),
        ("features.13", "features.19"),
        ("features.0", "features.12"),
    ]


@pytest.fixture
def checkpoint(tmp_path):
    """A file as the reference writes it, of a small network with 7 classes."""
    torch.manual_seed(1)
    network = VGG3D(**SMALL)
    path = tmp_path / "production.checkpoint"
    torch.save({"model_state_dict": network.state_dict(), "iteration": 3}, path)
    return path, network


def test_features_of_a_reference_checkpoint_load_completely_into_the_adapter(checkpoint) -> None:
    path, base = checkpoint
    network = VGG3DAdapter(VGG3D(input_size=(32, 32, 32), fmaps=2), (32, 32, 32), 5)
    report = load_pretrained(network, path)
    assert report.matched == [f"features.{key}" for key in base.features.state_dict()]
    assert all(key.startswith("classifier.") for key in report.missing)
    assert report.unexpected == []
    for key, value in base.features.state_dict().items():
        assert torch.equal(network.features.state_dict()[key], value)


def test_a_new_number_of_classes_keeps_the_other_linear_layers(checkpoint) -> None:
    path, base = checkpoint
    network = VGG3D(**SMALL, num_classes=3)
    report = load_pretrained(network, path)
    assert report.missing == ["classifier.6.weight", "classifier.6.bias"]
    assert torch.equal(network.classifier[3].weight, base.classifier[3].weight)


def test_a_bias_that_happens_to_fit_is_not_taken_without_its_weight(checkpoint) -> None:
    path, _ = checkpoint
    network = VGG3DAdapter(VGG3D(**SMALL), (16, 16, 16), 7, classifier_size=8)
    report = load_pretrained(network, path)
    assert {key for key in report.missing if key.startswith("classifier.6")} == {
        "classifier.6.weight",
        "classifier.6.bias",
    }
    assert not network.classifier[6].bias.any()


def test_a_checkpoint_without_a_feature_tensor_fails_with_its_name(checkpoint, tmp_path) -> None:
    path, base = checkpoint
    state = base.state_dict()
    del state["features.13.weight"]
    torch.save({"model_state_dict": state}, path)
    network = VGG3DAdapter(VGG3D(**SMALL), (16, 16, 16), 5)
    before = network.features[0].weight.clone()
    with pytest.raises(WeightsError, match=r"1 of 70 backbone tensors are not matched: features\.13\.weight"):
        load_pretrained(network, path)
    assert torch.equal(network.features[0].weight, before)


def test_an_input_of_another_size_is_refused_in_words() -> None:
    network = VGG3DAdapter(VGG3D(**SMALL), (16, 16, 16), 5)
    with pytest.raises(ValueError, match=r"made for inputs of \[16, 16, 16\] voxels, got \[16, 16, 20\]"):
        network(torch.zeros(1, 1, 16, 16, 20))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_convolutions": (2, 2)}, "one entry for each block, got 4, 4 and 2"),
        ({"input_size": (80, 15, 80)}, r"\[80, 15, 80\] voxels is too small; it needs at least \[16, 16, 16\]"),
        ({"input_size": (80, 80)}, "three lengths Z, Y, X"),
    ],
    ids=["blocks", "too-small", "two-axes"],
)
def test_bad_arguments(arguments, message) -> None:
    with pytest.raises(ConfigError, match=message):
        VGG3D(**arguments)
