"""Transforms that compute in numpy take tensors of a GPU."""

import pytest
import torch
from device_tensor import on_device

from monai_ext.transforms import CorrectBiasField, PrepareTargetsd


def test_stored_targets_may_lie_on_a_device():
    stored = (torch.rand(1, 4, 4, 4, generator=torch.Generator().manual_seed(0)) > 0.5).to(torch.uint8) * 255
    prepare = PrepareTargetsd({"sheet": {"channels": 1, "activation": "sigmoid"}})
    found = prepare({"sheet": on_device(stored)})["sheet"]
    assert found.tolist() == prepare({"sheet": stored})["sheet"].tolist()


@pytest.mark.slow  # importing ITK
def test_a_bias_field_is_corrected_on_the_host():
    image = torch.rand(1, 16, 16, 16, generator=torch.Generator().manual_seed(0)) + 1
    correct = CorrectBiasField(shrink=2, iterations=(2,))
    found = correct(on_device(image))
    torch.testing.assert_close(found.cpu(), correct(image))
