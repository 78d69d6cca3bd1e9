import logging

import pytest
import torch
from torch import nn

from monai_ext.networks import VGG3D, initial_network


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
