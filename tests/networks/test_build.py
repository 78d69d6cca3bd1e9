import logging

import pytest
import torch
from torch import nn

from monai_ext.errors import ConfigError, WeightsError
from monai_ext.networks import (
    VGG3D,
    MedicalNetResNet50,
    SliceClassifier,
    SurfaceUNet,
    fine_tuning_stages,
    initial_network,
)


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save(VGG3D((16, 16, 16), fmaps=2).state_dict(), path)
    return path


@pytest.mark.parametrize(("scaling", "warned"), [("symmetric", False), ("unit", True)])
def test_pretrained_weights_of_other_settings_are_warned_about(weights, caplog, scaling, warned):
    with caplog.at_level(logging.WARNING, "monai_ext"):
        initial_network(
            VGG3D((16, 16, 16), fmaps=2),
            "cpu",
            weights,
            settings={"scaling": scaling},
            pretrained_settings={"scaling": "symmetric"},
        )
    assert (
        any("was trained with scaling 'symmetric', this run has 'unit'" in r.message for r in caplog.records) == warned
    )


def test_nothing_is_warned_about_without_pretrained_weights(caplog):
    with caplog.at_level(logging.WARNING, "monai_ext"):
        initial_network(nn.Linear(1, 1), "cpu", settings={"scaling": "unit"}, pretrained_settings={"scaling": "x"})
    assert not caplog.records


def test_a_target_that_the_file_lacks_starts_fresh_only_when_asked_for(tmp_path):
    path = tmp_path / "sheet.pt"
    torch.save({"model": SurfaceUNet(targets={"sheet": {"channels": 1}}, f_maps=(8, 16)).state_dict()}, path)
    targets = {"sheet": {"channels": 1}, "ink": {"channels": 1}}
    with pytest.raises(WeightsError, match=r"task_decoders\.ink"):
        initial_network(SurfaceUNet(targets=targets, f_maps=(8, 16)), "cpu", path)
    network = initial_network(SurfaceUNet(targets=targets, f_maps=(8, 16)), "cpu", path, fresh_targets=["ink"])
    saved = torch.load(path, weights_only=True)["model"]
    assert all(torch.equal(network.state_dict()[key], value) for key, value in saved.items())


def test_a_fresh_target_that_does_not_exist_is_an_error():
    with pytest.raises(ConfigError, match="no target 'inc'"):
        initial_network(SurfaceUNet(f_maps=(8, 16)), "cpu", fresh_targets=["inc"])


@pytest.mark.parametrize(
    ("network", "layout"),
    [(nn.Conv2d(3, 4, 3), torch.channels_last), (nn.Conv3d(3, 4, 3), torch.channels_last_3d)],
    ids=["2-D", "3-D"],
)
def test_channels_last_fits_the_convolutions(network, layout):
    weight = initial_network(network, "cpu", channels_last=True).weight
    assert weight.is_contiguous(memory_format=layout)
    assert not weight.is_contiguous()


def test_stages_are_the_network_s_own_or_its_parts_from_end_to_input():
    network = SliceClassifier()
    assert fine_tuning_stages(network) == network.stages
    expected = ["layer4", "layer3", "layer2", "layer1", "bn1", "conv1"]
    assert fine_tuning_stages(MedicalNetResNet50()) == expected
    assert fine_tuning_stages(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))) == ["0"]
