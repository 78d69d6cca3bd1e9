"""Numpy arrays of whatever there is, and the test double for a GPU's tensors that the other tests rely on."""

import numpy as np
import pytest
import torch
from device_tensor import DeviceTensor, on_device
from monai.data import MetaTensor
from monai.transforms import Activations

from monai_ext.arrays import to_numpy

VALUES = torch.tensor([[1.5, -2.0]])


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.int64])
def test_a_tensor_of_a_device_and_of_any_type_becomes_an_array(kind):
    found = to_numpy(on_device(VALUES.to(kind)), np.float64)
    assert found.dtype == np.float64
    assert found.tolist() == VALUES.to(kind).tolist()


def test_without_a_type_only_bfloat16_changes_its_own():
    assert to_numpy(VALUES.half()).dtype == np.float16
    assert to_numpy(VALUES.bfloat16()).dtype == np.float32


def test_a_tensor_that_needs_a_gradient_is_detached():
    assert to_numpy(VALUES.clone().requires_grad_()).tolist() == VALUES.tolist()


def test_a_tensor_with_meta_data_becomes_a_plain_array():
    assert type(to_numpy(MetaTensor(VALUES))) is np.ndarray


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (2, 2),
        ([1, 2], [1, 2]),
        (np.array([3]), [3]),
        (on_device([torch.tensor(1), torch.tensor(2)]), [1, 2]),
        (on_device([[torch.tensor([1.0])], [torch.tensor([2.0])]]), [[[1.0]], [[2.0]]]),
    ],
    ids=["number", "list", "array", "list of tensors", "nested list"],
)
def test_numbers_lists_and_arrays_are_taken_too(value, expected):
    assert to_numpy(value, np.float64).tolist() == expected


def test_the_memory_is_shared_where_it_can_be():
    assert np.shares_memory(to_numpy(VALUES), VALUES.numpy())


@pytest.mark.parametrize("convert", [np.asarray, np.array, torch.Tensor.numpy, lambda tensor: np.array([tensor])])
def test_the_double_refuses_numpy_after_any_operation(convert):
    tensor = on_device(VALUES)
    for each in (tensor, (tensor + VALUES)[0], torch.stack([tensor]).int(), Activations(sigmoid=True)(tensor)):
        assert type(each) is DeviceTensor
        with pytest.raises(TypeError, match="device type tensor to numpy"):
            convert(each)


def test_the_double_meets_tensors_with_meta_data():
    assert type(MetaTensor(VALUES) * on_device(VALUES)) is DeviceTensor


def test_the_double_gives_numbers_and_comes_to_the_host_when_it_is_told_to():
    tensor = on_device(torch.tensor(3.0))
    assert (tensor.item(), float(tensor), int(tensor), tensor.tolist()) == (3.0, 3.0, 3, 3.0)
    cpu = torch.device("cpu")
    for host in (tensor.cpu(), tensor.to("cpu"), tensor.to("cpu", torch.float64), tensor.to(device=cpu)):
        assert type(host) is torch.Tensor
    for stays in (tensor.double(), tensor.to(tensor.device), torch.zeros(1, device=tensor.device) + tensor):
        assert type(stays) is DeviceTensor
