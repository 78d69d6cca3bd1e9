"""The memory of a training step is counted as it is taken, without taking it."""

import pytest
import torch
from torch import nn

from monai_ext.networks import CordUNet, MedicalNetResNet50
from monai_ext.networks.footprint import training_footprint


def kept_by_computing(network, shape):
    """Bytes that a real forward pass keeps for the backward pass."""
    own = {tensor.untyped_storage()._cdata for tensor in (*network.parameters(), *network.buffers())}
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network.train()(torch.rand(shape))
    return sum(t.untyped_storage().nbytes() for address, t in kept.items() if address not in own)


def test_of_two_layers_by_hand():
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU())
    footprint = training_footprint(network, (2, 1, 8, 8))
    assert footprint.weights == 4 * (4 * 9 + 4)
    assert footprint.activations == 4 * 2 * 64 * (1 + 4)  # the image, and what ReLU gave


@pytest.mark.parametrize(
    ("network", "shape"),
    [(CordUNet(features=4), (3, 1, 32, 32)), (MedicalNetResNet50(), (2, 1, 32, 32, 32))],
    ids=["unet", "resnet"],
)
def test_equals_what_a_real_step_keeps(network, shape):
    assert training_footprint(network, shape).activations == kept_by_computing(network, shape)


def test_the_network_stays_as_it_is():
    network = CordUNet(features=4).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    training_footprint(network, (1, 1, 32, 32))
    assert not network.training
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_size_that_the_network_does_not_take_is_its_own_error():
    with pytest.raises(ValueError, match="CordUNet"):
        training_footprint(CordUNet(features=4), (1, 1, 33, 32))
