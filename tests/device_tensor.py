"""A tensor that refuses what a tensor on a GPU refuses, for tests without one."""

from __future__ import annotations

import contextlib

import torch
from monai.engines import SupervisedEvaluator
from torch.utils._pytree import tree_map_only

_TO_NUMPY = (torch.Tensor.numpy, torch.Tensor.__array__)
# What `device` says: not "cpu", and still a place where torch can make tensors.
_DEVICE = torch.device("cpu", 0)


class DeviceTensor(torch.Tensor):
    """Stays what it is through every operation, refuses numpy, and becomes a plain tensor by ``cpu()`` or
    ``to("cpu")`` alone. ``item``, ``tolist``, ``float`` and ``int`` work, as on a GPU. Its memory is the CPU's.

    It has no meta data, and stays so where MONAI's transforms would make a `MetaTensor` of it. It meets plain tensors
    in an operation: that these are on another device is not emulated.
    """

    def as_subclass(self, cls):
        return self

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in _TO_NUMPY:
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")
        if func == torch.Tensor.device.__get__:
            return _DEVICE
        host = func is torch.Tensor.cpu or (func is torch.Tensor.to and _names_the_cpu(args[1:], kwargs))
        result = func(*_plain(args), **_plain(kwargs))
        return result if host else on_device(result)


def on_device(values):
    """The tensors of nested lists, tuples and dicts as `DeviceTensor`; the rest as it is."""
    return tree_map_only(torch.Tensor, lambda tensor: tensor.as_subclass(DeviceTensor), _plain(values))


@contextlib.contextmanager
def emulated_device(monkeypatch):
    """Within, every network in evaluation mode gets and gives `DeviceTensor`, and so do batches of evaluators."""
    met = []

    def forward(module, args):
        if module.training:
            return None
        met.append(type(module).__name__)
        return on_device(args)

    create = SupervisedEvaluator.__init__

    def with_device(self, *args, **kwargs):
        create(self, *args, **kwargs)
        prepare = self.prepare_batch
        self.prepare_batch = lambda *words, **options: on_device(prepare(*words, **options))

    with monkeypatch.context() as patch:
        patch.setattr(SupervisedEvaluator, "__init__", with_device)
        handle = torch.nn.modules.module.register_module_forward_pre_hook(forward)
        try:
            yield met
        finally:
            handle.remove()


def _plain(values):
    with torch._C.DisableTorchFunctionSubclass():
        return tree_map_only(torch.Tensor, _unwrapped, values)


def _unwrapped(tensor):
    # Parameters stay: networks are looked at by them.
    if type(tensor) in (torch.Tensor, torch.nn.Parameter):
        return tensor
    return torch.Tensor.as_subclass(tensor, torch.Tensor)


def _names_the_cpu(args, kwargs):
    names = [value for value in (*args, *kwargs.values()) if isinstance(value, (str, torch.device))]
    return any(torch.device(name) == torch.device("cpu") for name in names)
