"""A label is compared with the classes of its own head alone."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from monai_ext.errors import ConfigError
from monai_ext.losses import HeadCrossEntropy

NAMES = ["anatomy/brain", "anatomy/spine", "sequence/T1w", "sequence/T2w", "sequence/other"]


@pytest.fixture
def logits():
    return torch.randn((4, 5), generator=torch.Generator().manual_seed(0)).requires_grad_()


def test_the_loss_is_the_mean_over_samples_of_their_own_head_s(logits):
    found = HeadCrossEntropy(NAMES)(logits, torch.tensor([1, 3, 0, 4]))
    anatomy = cross_entropy(logits[[0, 2], :2], torch.tensor([1, 0]), reduction="sum")
    sequence = cross_entropy(logits[[1, 3], 2:], torch.tensor([1, 2]), reduction="sum")
    torch.testing.assert_close(found, (anatomy + sequence) / 4)


def test_other_heads_get_no_gradient(logits):
    HeadCrossEntropy(NAMES)(logits, torch.tensor([1, 0, 0, 1])).backward()
    assert (logits.grad[:, :2] != 0).all()
    assert (logits.grad[:, 2:] == 0).all()


def test_classes_weigh_as_in_torch(logits):
    weight = torch.tensor([1.0, 2.0, 3.0, 0.5, 1.0])
    found = HeadCrossEntropy(NAMES, weight)(logits, torch.tensor([2, 3, 4, 3]))
    torch.testing.assert_close(found, cross_entropy(logits[:, 2:], torch.tensor([0, 1, 2, 1]), weight[2:]))


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["anatomy/brain", "T1w"], "class 'T1w': has no head"),
        (["a/1", "b/1", "a/2"], "class 'a/2': stands apart from the others of the head 'a'"),
    ],
    ids=["no-head", "apart"],
)
def test_classes_without_order_are_refused(names, text):
    with pytest.raises(ConfigError, match=text):
        HeadCrossEntropy(names)
