"""The loss of a mask and of whether there is one."""

import pytest
import torch
from monai.losses import DiceCELoss
from torch.nn.functional import binary_cross_entropy_with_logits

from monai_ext.errors import ConfigError
from monai_ext.losses import CordLoss

MASK_LOSS = DiceCELoss(sigmoid=True)


@pytest.fixture
def masks():
    """Of 100 pixels none, one and two."""
    found = torch.zeros((3, 1, 10, 10))
    found[1, 0, 4, 4] = 1
    found[2, 0, 4, 4:6] = 1
    return found


def test_of_a_mask_alone_it_is_the_loss_of_the_mask(masks):
    logits = torch.randn(masks.shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(CordLoss(MASK_LOSS)(logits, masks), MASK_LOSS(logits, masks))


@pytest.mark.parametrize(("area", "visible"), [(0.001, [0, 1, 1]), (0.01, [0, 1, 1]), (0.02, [0, 0, 1])])
def test_whether_the_cord_is_visible_follows_from_its_share_of_the_slice(masks, area, visible):
    generator = torch.Generator().manual_seed(0)
    pred = {"cord": torch.randn(masks.shape, generator=generator), "visible": torch.randn((3, 1), generator=generator)}
    truth = torch.tensor(visible, dtype=torch.float32)[:, None]
    expected = MASK_LOSS(pred["cord"], masks) + binary_cross_entropy_with_logits(pred["visible"], truth)
    torch.testing.assert_close(CordLoss(MASK_LOSS, area)(pred, masks), expected)


@pytest.mark.parametrize("area", [0, 1, -0.1])
def test_an_area_out_of_range_is_refused(area):
    with pytest.raises(ConfigError, match=r"--visible_area .*: must be a fraction"):
        CordLoss(MASK_LOSS, area)
