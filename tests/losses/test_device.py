"""Nobody moves a loss to the device of the training: it follows the logits."""

import pytest
import torch

from monai_ext.losses import AsymmetricLoss, LDAMLoss, MultiClassFocalLoss, MultiLabelFocalLoss

CLASSES, LABELS = torch.zeros(2, dtype=torch.int64), torch.zeros(2, 2)


@pytest.mark.parametrize(
    ("loss", "target"),
    [
        pytest.param(LDAMLoss([3, 4]), CLASSES, id="ldam"),
        pytest.param(LDAMLoss([3, 4], weight=[1, 2]), CLASSES, id="ldam-weighted"),
        pytest.param(MultiClassFocalLoss(weight=[1, 2]), CLASSES, id="focal"),
        pytest.param(MultiLabelFocalLoss(class_weight=[1, 2]), LABELS, id="multi-label-focal"),
        pytest.param(AsymmetricLoss(), LABELS, id="asymmetric"),
    ],
)
def test_weights_and_margins_follow_the_logits_to_their_device(loss, target) -> None:
    # "meta" stands for a GPU: it refuses tensors of the CPU likewise.
    assert loss(torch.zeros(2, 2, device="meta"), target.to("meta")).device.type == "meta"
