import torch
from torch import nn

from monai_ext.inferers import SliceMeanInferer


def network(x):
    return x.mean((2, 3))


def test_a_volume_has_the_mean_of_its_slices_probabilities():
    volume = torch.randn(2, 5, 3, 4, 4)
    found = torch.sigmoid(SliceMeanInferer()(volume, network))
    expected = torch.stack([torch.sigmoid(network(slices)).mean(0) for slices in volume])
    torch.testing.assert_close(found, expected.double())


def test_slices_and_other_networks_get_a_plain_forward():
    slices, volume = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4, 4)
    assert torch.equal(SliceMeanInferer()(slices, network), network(slices))
    assert SliceMeanInferer(False)(volume, nn.Identity()) is volume
