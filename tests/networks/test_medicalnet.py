from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from network_contract import GOLDEN, NetworkContract, fill, filled, relative_error

from monai_ext.networks import MedicalNetResNet50


@pytest.fixture(scope="module")
def golden() -> dict:
    return json.loads((GOLDEN / "medicalnet.json").read_text())


@pytest.fixture(scope="module")
def pooled() -> dict:
    with np.load(GOLDEN / "medicalnet.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays}


class TestUndilated(NetworkContract):
    input_shape = (2, 1, 32, 32, 32)
    output_shapes = ((2, 2),)

    @pytest.fixture(scope="class")
    @classmethod
    def network(cls):
        return MedicalNetResNet50().eval()


@pytest.mark.slow
class TestDilatedFourChannels(NetworkContract):
    input_shape = (1, 4, 32, 40, 33)
    output_shapes = ((1, 3),)

    @pytest.fixture(scope="class")
    @classmethod
    def network(cls):
        return MedicalNetResNet50(in_channels=4, num_classes=3, dilated=True).eval()


def recorded_stages(network: torch.nn.Module, names: list[str]) -> dict[str, torch.Tensor]:
    stages: dict[str, torch.Tensor] = {}
    for name in names:
        # Copied at once: later layers work in place.
        network.get_submodule(name).register_forward_hook(
            lambda module, args, output, name=name: stages.__setitem__(name, output.clone())
        )
    return stages


@pytest.mark.slow
@pytest.mark.parametrize("dilated", [True, False], ids=["dilated", "undilated"])
def test_equals_medicalnet_in_float64(golden, pooled, dilated) -> None:
    network = filled(MedicalNetResNet50(dilated=dilated).double()).eval()
    stages = recorded_stages(network, list(golden["stages"]))
    x = torch.from_numpy(np.random.RandomState(0).standard_normal((1, 1, 64, 64, 64)))
    kind = "dilated" if dilated else "undilated"

    with torch.no_grad():
        features = network.forward_features(x)
        logits = network.fc(features)

    assert relative_error(features, pooled[f"pooled_{kind}"]) < 1e-6
    assert relative_error(logits, torch.tensor(golden[f"logits_{kind}"], dtype=torch.float64)) < 1e-6
    for name in golden["stages"] if dilated else ("conv1", "maxpool", "layer1", "layer2"):
        reference = golden["stages"][name]
        assert list(stages[name].shape) == reference["shape"]
        for statistic in ("mean", "std", "min", "max"):
            actual = float(stages[name].std(correction=0) if statistic == "std" else getattr(stages[name], statistic)())
            assert actual == pytest.approx(reference[statistic], rel=1e-6, abs=1e-6 * reference["max"]), (
                name,
                statistic,
            )
        values = stages[name].flatten()[reference["flat_idx"]]
        assert relative_error(values, torch.tensor(reference["flat_val"], dtype=torch.float64)) < 1e-6, name


@pytest.mark.parametrize("channels", [1, 4])
def test_parameter_count(golden, channels) -> None:
    network = MedicalNetResNet50(in_channels=channels)
    assert sum(parameter.numel() for parameter in network.parameters()) == golden["parameters"][str(channels)]


def test_keys_are_medicalnets_backbone_and_the_classifier(golden) -> None:
    keys = list(MedicalNetResNet50().state_dict())
    backbone = [key for key in keys if not key.startswith("fc.")]
    assert len(backbone) == golden["backbone_keys"]
    assert backbone[0] == "conv1.weight"
    assert keys[-2:] == ["fc.1.weight", "fc.1.bias"]


def test_dropout_acts_in_training_only() -> None:
    network = MedicalNetResNet50(dropout=0.9)
    features = torch.ones(1, 2048)
    torch.manual_seed(0)
    assert not torch.equal(network.fc(features), network.fc(features))
    network.eval()
    assert torch.equal(network.fc(features), network.fc(features))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_channels": 0}, "in_channels must be an integer of at least 1, got 0"),
        ({"num_classes": 2.0}, "num_classes must be an integer of at least 1, got 2.0"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"dilated": "yes"}, "dilated must be true or false, got 'yes'"),
    ],
    ids=["channels", "classes", "dropout", "dilated"],
)
def test_bad_arguments(arguments, message) -> None:
    with pytest.raises(ValueError, match=f"MedicalNetResNet50: {message}"):
        MedicalNetResNet50(**arguments)


def test_fill_is_the_published_recipe() -> None:
    weight = fill({"conv1.weight": torch.empty(64, 1, 7, 7, 7)})["conv1.weight"]
    assert weight.dtype == torch.float64
    assert weight.std() == pytest.approx((2 / 343) ** 0.5, rel=0.05)
